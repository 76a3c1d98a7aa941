# Two commands are enough: `make tune` and `make test`. Each sets up all that it needs.
SPACE ?= joint
ARGS ?=
PY := .venv/bin/python
# A machine with a GPU may have a torch of its own, and no index to set up from.
GPU_PY ?= $(if $(wildcard $(PY)),$(PY),python3)
# A file of tests stays in one process: whole studies run one after the other, beside the rest, and begin first.
SPREAD := -n 2 --dist loadfile --no-loadscope-reorder
BASE := build/base-tools
ALL := build/all-tools
RESULTS := benchmarks/results
STAMP = $(shell nproc)cpu_$(shell date +%Y%m)
# Without bytecode beside them, each of a study's many processes compiles torch, Ray and MLflow for half a minute.
unexport PYTHONDONTWRITEBYTECODE
TABLE ?= $(lastword $(sort $(wildcard $(RESULTS)/search_table_*.json)))
.DEFAULT_GOAL := help
.PHONY: help setup tune test test-all gpu-check bench bench-table bench-memory figures lint format lock ui secrets cluster cluster-check base-tools all-tools peers system-packages clean

help: ## print this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | awk -F '\t' '{printf "  make %-12s %s\n", $$1, $$2}'

# The lock's content decides, not its date: a fresh checkout or a branch switch costs nothing.
setup: ## build .venv/ from requirements.lock (only when the lock changed)
	@cmp -s requirements.lock .venv/requirements.lock || { \
	  echo "setting up .venv from requirements.lock ..." && \
	  rm -rf .venv && python3 -m venv .venv && \
	  $(PY) -m pip install --quiet --disable-pip-version-check "$$(grep -o '^uv==[^ ;]*' requirements.lock)" && \
	  .venv/bin/uv pip sync --quiet --python $(PY) requirements.lock && \
	  $(PY) -c "import mlflow.tracking, optuna, ray.tune, torchvision.models" && \
	  cp requirements.lock .venv/requirements.lock; }

tune: setup ## search: make tune [SPACE=separate_lr] [ARGS="--trials 32 --memory-budget-mib 60"]
	@$(PY) launch.py --space $(SPACE) $(ARGS)

# What somebody installed by hand is not found: the same tools on every machine, each named in a list.
FIND_BASE := export PATH="$(CURDIR)/.venv/bin:$(CURDIR)/$(BASE)";
FIND_ALL := export PATH="$(CURDIR)/.venv/bin:$(CURDIR)/$(ALL)";

test: base-tools setup ## the tests, real servers and a real kill included (a few minutes)
	@$(FIND_BASE) $(PY) -m pytest $(SPREAD) -m "not slow" --durations=15 $(ARGS)

test-all: all-tools setup peers ## every test, the slow ones too (needs `make system-packages`)
	@$(FIND_ALL) $(PY) -m pytest $(SPREAD) --durations=15 $(ARGS)

base-tools:
	@.ci/link-tools $(BASE) .ci/base-tools.txt

all-tools:
	@.ci/link-tools $(ALL) .ci/base-tools.txt .ci/system-packages.txt

peers: setup ## the searches that benchmarks are compared with, into build/peers
	@cmp -s benchmarks/search/peers.txt build/peers/peers.txt || { \
	  .venv/bin/uv pip install --quiet --no-deps --python $(PY) --target build/peers -r benchmarks/search/peers.txt && \
	  cp benchmarks/search/peers.txt build/peers/; }

system-packages: ## install what `make test-all` needs of the system, with apt-get
	@.ci/install-packages .ci/base-tools.txt .ci/system-packages.txt

bench-memory: setup ## measure every figure of docs/memory.md again (most of an hour on a quiet machine)
	@for backbone in mobilenet_v2 proxylessnas_mobile efficientnet_lite0; do \
	  $(PY) -m benchmarks.memory.engine --backbone $$backbone --rounds 5 \
	    --json $(RESULTS)/memory_engine_$${backbone}_$(STAMP).json || exit 1; \
	done
	@$(PY) -m benchmarks.memory.plan_time --json $(RESULTS)/plan_time_$(STAMP).json
	@$(PY) -m benchmarks.memory.peers --rounds 5 --json $(RESULTS)/memory_peers_mobilenet_v2_$(STAMP).json
	@$(PY) -m benchmarks.memory.checkpoint --measure 1 8 --rounds 5 --json $(RESULTS)/memory_checkpoint_$(STAMP).json
	@$(PY) -m benchmarks.memory.frozen_weights --seeds 2 --json $(RESULTS)/memory_frozen_weights_$(STAMP).json
	@$(PY) -m benchmarks.memory.all_methods --figure docs/memory_all.png \
	  --json $(RESULTS)/memory_all_mobilenet_v2_$(STAMP).json
	@$(PY) -m benchmarks.memory.docs --stamp $(STAMP)

# Its tests first, with no file that imports Ray, Optuna or MLflow. CUDA's own warnings are no errors there.
gpu-check: ## what a machine with a GPU has to say, in under eight minutes (torch and tinytl are enough)
	@if $(GPU_PY) -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then \
	  CUDA_VISIBLE_DEVICES=$${CUDA_VISIBLE_DEVICES-0} $(GPU_PY) -m pytest tests/gpu -W default -p no:cacheprovider; \
	else echo "torch finds no GPU here: tests/gpu runs on one"; fi
	@$(GPU_PY) -m benchmarks.gpu.check --json $(RESULTS)/gpu_check_$(STAMP).json $(ARGS)

bench: setup ## compare the search with its peers: every figure of docs/search.md but the table (half an hour)
	@for question in throughput overhead launch kills; do \
	  $(PY) -m benchmarks.search.$$question --json $(RESULTS)/search_$${question}_$(STAMP).json || exit 1; \
	done
	@$(PY) -m benchmarks.search.epochs --table $(TABLE) --json $(RESULTS)/search_epochs_$(STAMP).json

bench-table: setup ## train every configuration that `make bench` looks up (80 minutes of one core)
	@$(PY) -m benchmarks.search.table --json $(RESULTS)/search_table_$(STAMP).json

figures: setup ## draw the diagrams under docs/ again
	@$(PY) -m tinytl plot --diagram block --backbone mobilenet_v2 --resolution 224 --out docs
	@for backbone in mobilenet_v2 proxylessnas_mobile efficientnet_lite0; do \
	  $(PY) -m tinytl plot --diagram backbone --backbone $$backbone --resolution 224 --format png --out docs || exit 1; \
	done

lint: base-tools setup ## ruff, mypy, import-linter, hadolint, shellcheck
	@$(FIND_BASE) .venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/lint-imports --no-cache
	@$(FIND_BASE) .venv/bin/hadolint docker/Dockerfile && .venv/bin/shellcheck --external-sources --source-path docker docker/*.sh docker/slurm/*.sbatch
	@$(FIND_BASE) .venv/bin/shellcheck .ci/run .ci/link-tools .ci/install-packages tests/on_torch.sh

format: setup ## rewrite the code in the project's format
	@.venv/bin/ruff check --fix . ; .venv/bin/ruff format .

lock: setup ## compute requirements.lock from pyproject.toml
	@.venv/bin/uv pip compile --quiet --universal --no-emit-index-url --no-header --python-version 3.11 \
	  --extra tuner --extra s3 --extra tensorboard --group dev pyproject.toml --output-file requirements.lock

ui: setup ## serve the MLflow UI of the studies under runs/ at http://127.0.0.1:5000
	@$(PY) -m tuner ui

secrets: ## write the service's passwords and tokens to docker/secrets/; existing files stay
	@docker/make-secrets.sh

cluster: ## start PostgreSQL, MLflow, a Ray head and workers in Docker: make cluster [WORKERS=4] [DEVICE=cuda]
	@docker/up.sh

cluster-check: setup ## check the files for Kubernetes, Slurm and systemd, without any [ARGS="--crds FOLDER"]
	@PATH="$(CURDIR)/.venv/bin:$$PATH" $(PY) docker/cluster_check $(ARGS)

clean: ## remove .venv and caches; runs/ stays
	@rm -rf .venv $(BASE) $(ALL) .mypy_cache .ruff_cache .pytest_cache && find . -name __pycache__ -type d -prune -exec rm -rf {} +
