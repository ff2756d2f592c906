# make demo   index the samples, search them, draw the answers
# make check  the quick loop: lint, types, fast tests
# make test   everything, with its real peers

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CORE   := $(VENV)/.core
DEV    := $(VENV)/.dev

.PHONY: demo check test lint types clean

# The CPU build of torch is pinned: a bare `torch` pulls several gigabytes of GPU packages.
TORCH := torch==2.13.0

$(CORE): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(DEV): $(CORE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[train,report,test,bench,dev]"
	touch $@

demo: $(CORE)
	$(BIN)/medlike demo

lint: $(DEV)
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/lint-imports

types: $(DEV)
	$(BIN)/mypy

check: lint types
	$(BIN)/python -m pytest -m "not slow and not gpu"

test: $(DEV)
	sh tests/system-packages.sh
	$(MAKE) lint types
	$(BIN)/python -m pytest -m "not gpu"

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
