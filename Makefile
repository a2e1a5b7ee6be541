# make demo          a federated run from nothing, in a virtual environment of its own
# make test          lint, types and the quick tests, with the versions of constraints.txt
# make test-slow     the tests marked slow: whole runs, processes, clusters (by hand,
#                    before a release and after a change to runs, FLARE or Slurm)
# make test-lowest   the tests marked compat, with the lowest versions that pyproject.toml allows
# make test-newest   all tests with whatever is newest today: by hand, and before a release
# make test-pythons  the tests marked compat, with every Python from 3.10 on that is installed
# make fuzz          five minutes of mutated messages, payloads and files (SECONDS=30 SEED=7 for others)
# make gpu-check     on a machine with a GPU: the tests marked gpu, then speed and memory on it
# make docs          the documentation as a site, in site/
# make benchmarks    measure again what docs/benchmarks.md says (an hour on a quiet machine)
PYTHON ?= python3
BIN := .venv/bin
LOWEST := .venv-lowest/bin
NEWEST := .venv-newest/bin
# Files of tests shared out to processes, one for each core up to four.
SHARED := --numprocesses auto --maxprocesses 4 --dist loadfile

.PHONY: demo test gpu-check test-slow test-lowest test-newest test-pythons fuzz docs benchmarks clean

demo: .venv/.run
	$(BIN)/python job.py --model_backend blip_vqa --model_name_or_path tiny --dataset easy_vqa \
		--num_clients 4 --num_rounds 3 --dirichlet_alpha 0.5 --simulator

test: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest $(SHARED) -m "not slow"

test-slow: .venv/.dev .venv/.docs .venv/.trackers .venv-lowest/.test
	$(BIN)/pytest $(SHARED) -m slow

test-lowest: .venv-lowest/.test
	$(LOWEST)/pytest -m compat

# Made anew each time. Of torch the build that is there already, or else the platform's own.
test-newest:
	$(PYTHON) -m venv --clear .venv-newest
	$(NEWEST)/python -m pip install --quiet $(shell grep '^torch==' constraints.txt) --editable '.[dev]'
	$(NEWEST)/pytest $(SHARED)

test-pythons:
	$(PYTHON) scripts/test_pythons.py

fuzz: .venv/.dev
	$(BIN)/python scripts/fuzz.py --seconds $(or $(SECONDS),300) $(if $(SEED),--seed $(SEED))

gpu-check: .venv/.dev
	$(BIN)/python benchmarks/gpu_check.py
	$(BIN)/python benchmarks/report.py none

docs: .venv/.docs
	$(BIN)/python scripts/docs_site.py site

benchmarks: .venv/.dev
	$(BIN)/python benchmarks/report.py

# Installed again only when the requirements change.
.venv/.run: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("FedUMM needs Python 3.10 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/.dev: .venv/.run
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv/.docs: .venv/.run
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

.venv/.trackers: .venv/.run
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[mlflow,wandb]'
	touch $@

.venv-lowest/.test: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv .venv-lowest
	$(LOWEST)/python -m pip install --quiet --constraint constraints-lowest.txt --editable '.[privacy,test]'
	touch $@

clean:
	rm -rf .venv .venv-lowest .venv-newest site
