"""``python -m benchmark.job FOLDER``: work on one planned run."""

import sys

from benchmark.job.process import main

if __name__ == "__main__":
    sys.exit(main())
