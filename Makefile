# `make demo`, `make test` and `make lint` set up all they need from Python alone.
#   make test PYTHON=python3.12      the same on another Python
PYTHON ?= python3
TAG := $(shell $(PYTHON) -c 'import sys; print("py%d.%d" % sys.version_info[:2])')
ifeq ($(TAG),)
$(error $(PYTHON) does not run; give a Python of 3.11 or newer, e.g. make test PYTHON=python3.12)
endif
VENV := .venv/$(TAG)
BIN := $(VENV)/bin

.PHONY: demo docs fuzz test lint lint-style lint-types figures bench calibrate setup clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@# Where PYTHONDONTWRITEBYTECODE is set, imports stay slow unless the bytecode is written once.
	-$(BIN)/python -m compileall -q -j 0 $(VENV)/lib src >/dev/null 2>&1
	touch $@

demo: $(VENV)/.ready
	$(BIN)/python -m ranef.cli.demo --out demo

test: $(VENV)/.ready
	@# One process per core, each with one thread: more would only wait for each other.
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

lint: lint-style lint-types

lint-style: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint-types: $(VENV)/.ready
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/python -m ipykernel install --sys-prefix --name python3 >/dev/null
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

figures: $(VENV)/.ready
	$(BIN)/python docs/make_figures.py

bench: $(VENV)/.ready
	$(BIN)/python benchmarks/article.py

calibrate: $(VENV)/.ready
	@# 1,000 simulations of every engine, structure and family of priors; an interrupted run goes on.
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python benchmarks/calibrate.py --folder calibration

N ?= 1000
SEED ?= 0
fuzz: $(VENV)/.ready
	@# N random designs from SEED on against dense matrices and against themselves written another way,
	@# a tenth of them against grids; each failure tells the seed that repeats it.
	@# Then as many calls of the public API with an odd argument, and exact draws against Gibbs'.
	OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/random_designs.py --number $(N) --seed $(SEED)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/fuzz/mutated_calls.py --number $(N) --seed $(SEED)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/fuzz/two_samplers.py --seed $(SEED)

clean:
	rm -rf .venv demo docs/_build build dist calibration
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
