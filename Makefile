# Windtunnel: `make help` lists everything. Each target installs what it needs into .venv; nothing outside the checkout.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON  ?= python3.11
VENV    := .venv
BIN     := $(VENV)/bin
RUN     ?= runs/demo
export TORCH_EXTENSIONS_DIR := $(CURDIR)/$(VENV)/torch_extensions
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help env demo test test-312 test-slow test-upstream test-slurm test-slurm-core lint parity transfer bench bench-data bench-dedup bench-plan bench-start bench-train bench-sweep bench-eval clean

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/' | expand -t 20

env: $(VENV)/installed  ## the environment, in .venv

# torch first and exactly: a range lets pip take a build for GPUs, gigabytes that a CPU machine doesn't need
$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q 'torch==2.13.0'
	$(BIN)/pip install -q 'megatron-core==0.16.1' -e '.[test,eval]' --no-build-isolation
	touch $@

demo: env  ## the main job on real text, on CPU: tokenizer to report
	@rm -rf $(RUN)
	@for step in \
	    "doctor" \
	    "tokenizer demo" \
	    "tokenize demo --workers 2" \
	    "verify data" \
	    "train demo --run-dir $(RUN) --processes 2" \
	    "audit $(RUN)" \
	    "coord-check demo --quick --out $(RUN)/coord-check" \
	    "eval $(RUN)" \
	    "export $(RUN)" \
	    "report $(RUN)"; do \
	  echo "\$$ windtunnel $$step"; $(BIN)/windtunnel $$step; \
	done
	@echo "report: $(RUN)/report.html"
	@echo "checkpoint for plain transformers: $(RUN)/export/hf"

test: lint  ## lint, types and the tests; the last on a real SLURM cluster, installed by apt where root may
	$(BIN)/python -m pytest -q
	$(MAKE) test-slurm-core

lint: env  ## ruff and the type checker
	$(BIN)/ruff check .
	$(BIN)/mypy

test-312:  ## the second lane: Python 3.12 with megatron-core 0.19 (several GB)
	@command -v python3.12 >/dev/null || { echo "test-312: there is no python3.12 on this machine; skipped"; exit 0; }
	test -e .venv312/installed || { python3.12 -m venv .venv312 && .venv312/bin/pip install -q 'megatron-core>=0.19,<0.20' \
	  && .venv312/bin/pip install -q -e '.[test,eval]' && touch .venv312/installed; }
	.venv312/bin/python -m pytest -q tests/megatron_patches tests/transfer tests/recipe

test-slow: env  ## tests that take minutes
	$(BIN)/python -m pytest -q -m slow

test-upstream: env  ## upstream's own tests of what we patch, without patches and with them: make test-upstream MEGATRON=checkout
	$(BIN)/python -m tests.upstream.run $(MEGATRON)

test-slurm: env  ## a real SLURM cluster on this machine (installed by apt where that is allowed)
	bash tests/slurm_cluster/install.sh
	$(BIN)/python -m pytest -q -m slurm tests/launch/slurm
	bash tests/slurm_cluster/as_user.sh $(BIN)/python -m pytest -q -m slurm -p no:cacheprovider tests/launch/slurm

test-slurm-core: env  ## of these a few minutes
	bash tests/slurm_cluster/install.sh --without-database
	$(BIN)/python -m pytest -q -m "slurm and not slow" tests/launch/slurm/test_training_job.py tests/launch/slurm/test_array.py

parity: env  ## any YAML list of layouts against one process: make parity LAYOUTS=file.yaml PRECISION=bf16
	$(BIN)/python -m tests.parity $(LAYOUTS) $(if $(PRECISION),--precision $(PRECISION))

STUDY = $(BIN)/python -W ignore -m tests.transfer.study --results $(or $(OUT),recipe/studies/transfer)/points.jsonl
transfer: env  ## the muP transfer study, a core for each half; goes on where it stopped: make transfer OUT=dir starts another
	@mkdir -p $(or $(OUT),recipe/studies/transfer)
	$(STUDY) --parts depth,gqa,scale_depth & other=$$!; \
	mine=0; $(STUDY) --parts width,weight_decay,batch,duration || mine=$$?; wait $$other && exit $$mine
	$(BIN)/python -m tests.transfer.draw $(or $(OUT),recipe/studies/transfer)

bench: bench-data bench-plan bench-train bench-start  ## the benchmarks

bench-train: env  ## a training step against transformers and megatron-core, as paired ratios; loss and loop alone
	$(BIN)/python -W ignore -m tests.bench.bench_train

bench-start: env  ## time and memory to the first batch against GPTDataset, up to 100 million documents (2 GB in /tmp)
	$(BIN)/python -W ignore -m tests.bench.bench_start

bench-data: env  ## the binarizer, as paired ratios: make bench-data CORPUS=dir
	$(BIN)/pip install -q -e '.[bench]' --no-build-isolation
	$(BIN)/python -m tests.bench.bench_data $(if $(CORPUS),--corpus $(CORPUS))

bench-dedup: env  ## deduplication against datatrove, as paired ratios
	$(BIN)/pip install -q -e '.[bench]' --no-build-isolation
	$(BIN)/python -m tests.bench.bench_dedup

bench-sweep: env  ## trials an hour by workers that serve many, against a job for each
	$(BIN)/python -W ignore -m tests.bench.bench_sweep

bench-plan: env  ## the planner against published runs: make bench-plan CSV=file.csv
	$(BIN)/python -m tests.bench.bench_plan $(or $(CSV),tests/data/parallelism_measurements.csv)

bench-eval: env  ## log-likelihood tasks against lm-eval's Hugging Face backend, as paired ratios
	$(BIN)/pip install -q -e '.[bench]' --no-build-isolation
	$(BIN)/python -W ignore -m tests.bench.bench_eval

clean:  ## removes runs and data of the checkout (not the environment)
	rm -rf runs data
