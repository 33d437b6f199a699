# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= demo-out

.PHONY: demo test test-suite test-slow lint bench setup clean

setup: $(READY)

# A half-made environment never counts: the stamp is written last.
$(READY): requirements.txt pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10) and 'hwc needs Python 3.10 or newer: make PYTHON=python3.11')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(READY)

demo: $(READY)
	$(BIN)/python -m benchmarks.fetch demo
	$(BIN)/python -m benchmarks.demo --out $(OUT)

test: $(READY)
	$(BIN)/python -m benchmarks.fetch demo
	$(BIN)/python -m pytest -m "not suite and not slow"

test-suite: $(READY)
	$(BIN)/python -m benchmarks.fetch suite
	$(BIN)/python -m pytest -m suite

test-slow: $(READY)
	$(BIN)/python -m benchmarks.fetch demo
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m benchmarks.fetch suite
	$(BIN)/python -m benchmarks.run_suite

bench-kernels: $(READY)
	$(BIN)/python -m benchmarks.fetch suite
	$(BIN)/python -m benchmarks.run_kernels

clean:
	rm -rf $(VENV) .cache $(OUT) build *.egg-info
