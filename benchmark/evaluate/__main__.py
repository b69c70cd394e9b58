"""``python -m benchmark.evaluate``: evaluate a finished run again, or a model that this suite did not train."""

import sys

from benchmark.evaluate.command import main

if __name__ == "__main__":
    sys.exit(main())
