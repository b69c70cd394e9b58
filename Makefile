# Two commands set everything up on a fresh machine: `make quickstart` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# two more than cores: tests that wait for SLURM leave theirs to others
JOBS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 2)

.PHONY: install quickstart test test-fast lint clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "scan-bench needs Python 3.10 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

quickstart: install
	$(BIN)/python -m benchmark.sweep sweeps/quickstart.yaml --cluster local --results runs
	$(BIN)/python -m analysis.report --results runs --out report

test: install
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup

test-fast: install
	$(BIN)/python -m pytest -n auto -m "not slow and not slurm"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build report
