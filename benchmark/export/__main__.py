"""``python -m benchmark.export``: a run's model as other tools load it."""

import sys

from benchmark.export.command import main

if __name__ == "__main__":
    sys.exit(main())
