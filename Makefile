# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= demo-out

.PHONY: demo test test-suite test-slow lint bench bench-kernels bench-int8 bench-dla bench-estimate bench-memory setup clean

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

# PHOTOS names a folder of ImageNet photos (file name = class index); without it EfficientNet-Lite0 has 20 photos only.
bench-int8: $(READY) .venv-nncf/.ready .venv-modelopt/.ready
	$(BIN)/python -m benchmarks.fetch all
	$(BIN)/python -m benchmarks.run_int8 $(if $(PHOTOS),--photos $(PHOTOS))

# Which layers may run on a DLA, and the cut; with no board.
bench-dla: $(READY)
	$(BIN)/python -m benchmarks.fetch suite
	$(BIN)/python -m benchmarks.run_dla

# The latency estimate against published figures that were left out of its fit.
bench-estimate: $(READY)
	$(BIN)/python -m benchmarks.run_estimate

# Placement against minimalloc's instances, and budgets that tile the graph.
bench-memory: $(READY)
	$(BIN)/python -m benchmarks.fetch suite
	$(BIN)/python -m benchmarks.run_memory
	$(BIN)/python -m benchmarks.run_tiling

# The peers pin other versions of onnx and onnxruntime than hwc, so each has an environment of its own.
.venv-nncf/.ready: benchmarks/requirements-int8.txt
	$(PYTHON) -m venv .venv-nncf
	.venv-nncf/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

.venv-modelopt/.ready: benchmarks/requirements-modelopt.txt
	$(PYTHON) -m venv .venv-modelopt
	.venv-modelopt/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	.venv-modelopt/bin/python -m pip install --quiet --disable-pip-version-check --no-deps nvidia-modelopt==0.47.0
	touch $@

clean:
	rm -rf $(VENV) .venv-nncf .venv-modelopt .cache $(OUT) build *.egg-info
