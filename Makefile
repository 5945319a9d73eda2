# Two commands on a fresh machine: `make demo` runs the main job, `make test` passes the tests.
# PIP_ARGS is handed to pip, say an index that offers the CPU build of torch.

PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS)
# One thread per process is fastest for checkpoints as small as the fixtures.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
export HF_HUB_OFFLINE ?= 1

.PHONY: demo test test-all lint unit data-tests browser-tests bench docs fixtures clean help

help:
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.hf: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -c constraints.txt -e '.[hf]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.hf

demo: $(VENV)/.hf ## roll the fixture checkpoints out on held-out scenes, score them, show the reports
	$(BIN)/coordeval demo --rollout

test: lint unit ## linters, type checks, layer checks and the core tests with coverage

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-timing 2>/dev/null || $(BIN)/lint-imports

unit: $(VENV)/.dev
	$(BIN)/pytest -m 'not data and not browser' --cov --cov-report=term --durations=8

data-tests: $(VENV)/.dev ## the tests on real data (COORDEVAL_DATA points to it)
	$(BIN)/pytest -m 'data and not browser' $(if $(COORDEVAL_DATA),--require-data)

$(VENV)/.browser: $(VENV)/.dev
	$(PIP) -c constraints.txt -e '.[browser]'
	@touch $@

browser-tests: $(VENV)/.browser ## the report in a real Chromium (the system's package)
	$(BIN)/pytest -m browser $(if $(COORDEVAL_DATA),--require-data)

test-all: test data-tests browser-tests ## everything that this machine can run

bench: $(VENV)/.dev ## the benchmarks: ratios measured side by side in one run
	$(BIN)/python benchmarks/bench_parsing.py
	$(BIN)/python benchmarks/bench_cli_start.py
	$(BIN)/python benchmarks/bench_scoring.py
	$(BIN)/python benchmarks/bench_compare.py
	$(BIN)/python benchmarks/bench_attribution.py
	$(BIN)/python benchmarks/bench_report.py

docs: $(VENV)/.dev ## re-make the generated pages and pictures of docs/
	$(BIN)/python docs/generate.py

fixtures: $(VENV)/.dev ## re-make checkpoints, scenes, dumps and recorded runs (about half an hour)
	$(BIN)/python fixtures/build_checkpoints.py
	$(BIN)/python fixtures/build_dumps.py
	$(BIN)/python fixtures/build_runs.py
	$(BIN)/python fixtures/build_logs.py
	$(BIN)/python fixtures/build_baselines.py

clean: ## remove the environment and caches
	rm -rf $(VENV) .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
