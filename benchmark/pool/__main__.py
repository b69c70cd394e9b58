"""``python -m benchmark.pool``: get a pool ready and look at it."""

import sys

from benchmark.pool.command import main

if __name__ == "__main__":
    sys.exit(main())
