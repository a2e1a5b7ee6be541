# make demo   a federated run from nothing, in a virtual environment of its own
# make test   lint, types and all tests
# make benchmarks   measure again what docs/benchmarks.md says (an hour on a quiet machine)
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test benchmarks clean

demo: .venv/.run
	$(BIN)/python job.py --model_backend blip_vqa --model_name_or_path tiny --dataset easy_vqa \
		--num_clients 4 --num_rounds 3 --dirichlet_alpha 0.5 --simulator

test: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

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

clean:
	rm -rf .venv
