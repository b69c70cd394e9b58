"""``python -m benchmark.coreset``: a coreset's samples for use elsewhere."""

import sys

from benchmark.coreset.command import main

if __name__ == "__main__":
    sys.exit(main())
