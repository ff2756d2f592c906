# make demo   index the samples, search them, draw the answers
# make serve  the same archive, served on this machine and opened in the browser
# make check  the quick loop: lint, types, fast tests
# make test   everything, with its real peers
# make docs   write the pages of commands from their own help, figures in README and docs from the results, and the
#             drawing of the rooms from the imports
# make pictures   the pictures of the reading room in docs/images, by Debian's Chromium
# make faults FOLDER=...   which inputs of a folder are read right, refused or read wrong
# make soak   two thousand generated DICOM files against independent decoders, twenty thousand damaged files, every
#             write of every command on a full disk, kills, power cuts, a thousand flipped bits, and ten minutes of use
#             of a service; figures go into docs/reliability.md (some hours)
# make docs-site   build the documentation as a site that works offline, in build/site
# make crash  a thousand kills and a thousand power cuts on an archive, and every operation with each call that syncs
#             switched off in turn (about half an hour)

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CORE   := $(VENV)/.core
SERVE  := $(VENV)/.serve
DEV    := $(VENV)/.dev
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# One version for all, so that bundles export alike. Elsewhere than on a machine set up for it, the CPU build (no
# GPU packages) comes with: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make test
TORCH := torch==2.13.0

# For one test, in a folder of its own: PyPI's torchvision does not import beside torch's CPU build, and other
# packages would try it.
OPEN_CLIP := open_clip_torch==3.3.0 timm==1.0.31 torchvision==0.28.0 ftfy wcwidth

# Tests run side by side in processes, each with one thread for its products; WORKERS= runs them in one process.
WORKERS ?= -n 2
TESTS   := OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(WORKERS)

# Inputs with their expected values, as in tests/imaging/faults.py.
FOLDER ?= $(MEDLIKE_DEV)/faults

.PHONY: demo serve text check test lint types docs pictures faults soak crash clean

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "medlike needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || sh tests/system-packages.sh python3-venv
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(CORE): pyproject.toml | $(BIN)/python
	$(PIP) -e ".[text]"
	@touch $@

$(SERVE): $(CORE)
	$(PIP) -e ".[text,service]"
	@touch $@

$(DEV): research/pyproject.toml $(CORE)
	$(PIP) $(TORCH)
	$(PIP) -e ".[train,text,service,client,report,test,docs,dev]" -e "research[bench]"
	$(PIP) --no-deps --upgrade --target $(VENV)/open-clip $(OPEN_CLIP)
	@touch $@

demo: text
	$(BIN)/medlike demo
	@echo 'Or serve the samples and open their page in one step: make serve'

serve: text $(SERVE)
	$(BIN)/medlike serve --demo --open

# The weights of the sentence encoder, 80 MB, fetched once and kept in the user's data folder.
text: $(CORE)
	@$(BIN)/medlike text install

lint: $(DEV)
	$(BIN)/ruff check src tests research samples tools docs/site
	$(BIN)/lint-imports

types: $(DEV)
	$(BIN)/mypy

check: lint types text
	sh tests/system-packages.sh gcc libc6-dev
	$(TESTS) -m "not slow and not gpu"

test: $(DEV)
	sh tests/system-packages.sh
	$(MAKE) lint types text
	$(TESTS) -m "not gpu"

docs: $(DEV)
	$(BIN)/python -m medlike_research.docs.reference > docs/cli.md.new && mv docs/cli.md.new docs/cli.md
	$(BIN)/python -m medlike_research.docs.reference added > research/commands.md.new \
	  && mv research/commands.md.new research/commands.md
	$(BIN)/python -m medlike_research.docs.inserts README.md docs/speed.md docs/results/acir.md docs/results/bundles.md
	$(BIN)/python -m medlike_research.docs.benchmarks docs/results/benchmarks
	$(BIN)/python tools/import_graph.py docs/images/rooms.svg

pictures: $(DEV)
	$(BIN)/python -m tests.service.pictures docs/images

faults: $(CORE)
	$(BIN)/python tests/imaging/faults.py $(FOLDER)

soak: $(DEV)
	sh tests/system-packages.sh dcmtk openjph-tools
	$(BIN)/python tests/imaging/differential/soak.py --runs 2000
	$(BIN)/python tests/imaging/fuzz.py --files 20000 --figures docs/reliability.md
	sh tests/system-packages.sh gcc libc6-dev
	$(BIN)/python tests/archive/crash/full_disk.py --figures docs/reliability.md
	$(BIN)/python tests/archive/crash/kills.py --runs 1000 --figures docs/reliability.md
	$(BIN)/python tests/archive/crash/powerloss.py --cuts 1000 --figures docs/reliability.md
	$(BIN)/python tests/archive/crash/flips.py --flips 1000 --figures docs/reliability.md
	$(BIN)/python tests/service/kills.py --runs 500 --figures docs/reliability.md
	$(BIN)/python tests/service/soak.py --minutes 10 --figures docs/reliability.md

docs-site: $(CORE)
	$(PIP) -e ".[docs]"
	$(BIN)/python -m sphinx -W --keep-going -q -c docs/site . build/site

crash: $(DEV)
	sh tests/system-packages.sh gcc libc6-dev
	$(BIN)/python tests/archive/crash/kills.py --runs 1000
	$(BIN)/python tests/archive/crash/powerloss.py --cuts 1000
	$(BIN)/python tests/archive/crash/upgrades.py --kills 200
	$(BIN)/python tests/archive/crash/order.py --sites

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
