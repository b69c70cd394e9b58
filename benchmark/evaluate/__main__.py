"""``python -m benchmark.evaluate``: evaluate a finished run again, or a model that this suite did not train."""

import importlib
import sys

# by name: the command stands above this package, which every model and job imports
sys.exit(importlib.import_module("benchmark.evaluatecli").main())
