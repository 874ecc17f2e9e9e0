PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
CLUSTERS := .venv-clusters
BIN := $(VENV)/bin
CACHE := $(CURDIR)/.cache
TEST = JAX_PLATFORMS=cpu JAX_COMPILATION_CACHE_DIR=$(CACHE)/jax $(BIN)/python -m pytest

.PHONY: help setup train test faults-smoke faults soak fuzz lint format picture picture-masks bench-peers test-peers \
  test-clusters clean

help:
	@echo "make train          train, evaluate and try a small model (configs/quickstart.py), under 3 minutes"
	@echo "make test           run all tests, 10 to 15 minutes on 2 cores"
	@echo "make faults-smoke   the faults that runs meet most, under 3 minutes"
	@echo "make faults         all faults, under 20 minutes; writes docs/faults.md"
	@echo "make soak           10 minutes of random kills, full disks and flipped bits, then every bit compared"
	@echo "make fuzz           random damage to every file that is read, 2 to 5 minutes"
	@echo "make lint           check format and style"
	@echo "make setup          make $(VENV) from requirements.txt, nothing else"
	@echo "make picture        draw docs/quickstart.svg from runs/quickstart"
	@echo "make picture-masks  draw docs/inspect.svg and those of docs/masking, what inspect prints"
	@echo "make bench-peers    make $(PEERS) with what benchmarks/masking.py compares with, 8 GB"
	@echo "make test-peers     run tests/peers against transformers and KerasHub themselves, in $(PEERS)"
	@echo "make test-clusters  run tests/clusters: gs:// on an emulator, SLURM and Open MPI where they are"
	@echo "make clean          remove $(VENV), $(PEERS), $(CLUSTERS) and caches; runs/ stays"

setup: $(VENV)/.ready

train: $(VENV)/.ready
	$(BIN)/python train.py --config=configs/quickstart.py --workdir=runs/quickstart

# Compiled steps are kept in .cache, so a second run of the suite is shorter.
test: $(VENV)/.ready-dev
	$(TEST) -n 2 --ignore=tests/faults

faults-smoke: $(VENV)/.ready-dev
	$(TEST) -n 2 --dist=worksteal -m smoke tests/faults

# Rows 49 and 50 need what requirements-clusters.txt names, row 54 what requirements-tpu.txt names in $(VENV).
faults: $(VENV)/.ready-dev
	rm -f $(CACHE)/faults*.xml
	-$(TEST) -n 2 --dist=worksteal --junitxml=$(CACHE)/faults.xml tests/faults
	-$(MAKE) $(CLUSTERS)/.ready && $(TEST:$(BIN)/%=$(CLUSTERS)/bin/%) -n 2 -m fault \
	  --junitxml=$(CACHE)/faults-clusters.xml tests/clusters
	$(BIN)/python tests/faults/scoreboard.py $(CACHE)/faults*.xml docs/faults.md

soak: $(VENV)/.ready-dev
	JAX_PLATFORMS=cpu $(BIN)/python tests/faults/soak.py --minutes=10

fuzz: $(VENV)/.ready-dev
	HYPOTHESIS_PROFILE=long $(TEST) -n 2 tests/fuzz

lint: $(VENV)/.ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(VENV)/.ready-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

picture: $(VENV)/.ready-dev
	PYTHONPATH=. $(BIN)/python docs/quickstart.py runs/quickstart docs/quickstart.svg

DRAW = PYTHONPATH=. JAX_PLATFORMS=cpu $(BIN)/python docs/masks.py
QUICKSTART = --config=configs/quickstart.py
picture-masks: $(VENV)/.ready
	$(DRAW) docs/inspect.svg $(QUICKSTART)
	$(DRAW) docs/masking/weights.svg $(QUICKSTART) --config.masking.rate=0.15 \
	  --config.masking.weights=frequency --masks=token --sentences=2
	$(DRAW) docs/masking/rates.svg $(QUICKSTART) --config.masking.rate=0.15 --masks=token@0.4,token@0.8 --sentences=2
	$(DRAW) docs/masking/corruption.svg $(QUICKSTART) --config.masking.mask_token_rate=1.0 \
	  --config.masking.random_token_rate=0.0 --masks=token --sentences=2

bench-peers: $(PEERS)/.ready
	@echo "now run: $(PEERS)/bin/python benchmarks/masking.py"

# A process per file: torch and TensorFlow do not meet.
test-peers: $(PEERS)/.ready
	JAX_PLATFORMS=cpu $(PEERS)/bin/python -m pytest -n 2 -rs tests/peers

test-clusters: $(CLUSTERS)/.ready
	JAX_PLATFORMS=cpu JAX_COMPILATION_CACHE_DIR=$(CACHE)/jax $(CLUSTERS)/bin/python -m pytest -n 2 -rs tests/clusters

$(VENV)/bin/python $(PEERS)/bin/python $(CLUSTERS)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -m venv $(@:/bin/python=) || { rm -rf $(@:/bin/python=); \
	  echo "error: $(PYTHON) cannot make a virtual environment; install its venv package" >&2; exit 2; }

$(VENV)/.ready: requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.ready-dev: requirements-dev.txt requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ $(VENV)/.ready

$(PEERS)/.ready: benchmarks/requirements-peers.txt requirements.txt | $(PEERS)/bin/python
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(CLUSTERS)/.ready: requirements-clusters.txt requirements.txt | $(CLUSTERS)/bin/python
	$(CLUSTERS)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

clean:
	rm -rf $(VENV) $(PEERS) $(CLUSTERS) .cache .pytest_cache .ruff_cache
