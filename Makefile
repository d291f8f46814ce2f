# Everything that a user or a contributor runs. `make` lists it.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Where pip finds packages, when not where it is set up to look: make setup PIP_ARGS="--index-url ..."
PIP_ARGS ?=
PIP    := $(BIN)/python -m pip install --quiet $(PIP_ARGS)
STAMP  := $(VENV)/.installed
FLOOR  := .venv-floor
TESTS  ?= tests
WORKERS ?= 2
# One thread a process: with two processes on two cores more threads only wait for each other, and sums stay exact.
PYTEST := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test test-network test-nightly test-floor check docs bench clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

setup: $(STAMP)  ## make .venv and install Newt with the tested versions

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch comes first and alone: the version is then settled before anything that depends on it is resolved.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the tested versions of constraints.txt into $(VENV)"
	$(PIP) -c constraints.txt torch
	$(PIP) -c constraints.txt -e '.[dev]'
	@touch $@

quickstart: setup  ## train a small model on this machine, from download to merged model
	@bash examples/quickstart/run.sh

test: setup  ## run the whole test suite, offline (TESTS=tests/data for a part of it)
	$(PYTEST) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not network and not nightly" $(TESTS)

test-nightly: setup  ## run the tests that take many minutes
	$(PYTEST) $(BIN)/python -m pytest -m nightly

test-network: setup  ## run the tests that ask a package registry; they skip themselves when it does not answer
	$(PYTEST) $(BIN)/python -m pytest -m network tests/network

# The oldest transformers that Newt supports; what transformers pins itself follows it.
test-floor:  ## run the suite with the oldest supported transformers, in a venv of its own
	test -x $(FLOOR)/bin/python || $(PYTHON) -m venv $(FLOOR)
	grep -vE '^(transformers|tokenizers|huggingface-hub)==' constraints.txt > $(FLOOR)/constraints.txt
	$(FLOOR)/bin/python -m pip install --quiet $(PIP_ARGS) -c $(FLOOR)/constraints.txt torch
	$(FLOOR)/bin/python -m pip install --quiet $(PIP_ARGS) -c $(FLOOR)/constraints.txt -e '.[dev]' 'transformers==5.17.*'
	$(PYTEST) $(FLOOR)/bin/python -m pytest -n $(WORKERS) --dist worksteal -m "not network and not nightly" $(TESTS)

check: setup  ## lint, types, layers, house rules, and generated pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports
	$(BIN)/python scripts/check_house.py
	$(BIN)/python scripts/generate_docs.py --check

docs: setup  ## write the pages that are made from the code
	$(BIN)/python scripts/generate_docs.py

bench: setup  ## run the benchmarks; each prints ratios against a baseline
	@for file in benchmarks/*.py; do echo "== $$file"; OMP_NUM_THREADS=1 $(BIN)/python $$file || exit 1; done

clean:  ## remove the venvs, caches and what the quickstart made
	rm -rf $(VENV) $(FLOOR) quickstart dist build last_run_prepared
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
