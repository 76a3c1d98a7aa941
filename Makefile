# Two commands are enough: `make tune` and `make test`. Each sets up all that it needs.
SPACE ?= joint
ARGS ?=
PY := .venv/bin/python
# A file of tests stays in one process: whole studies run one after the other, beside the rest.
SPREAD := -n 2 --dist loadfile
.DEFAULT_GOAL := help
.PHONY: help setup tune test test-all lint format lock ui clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | awk -F '\t' '{printf "  make %-10s %s\n", $$1, $$2}'

# The lock's content decides, not its date: a fresh checkout or a branch switch costs nothing.
setup: ## build .venv/ from requirements.lock (only when the lock changed)
	@cmp -s requirements.lock .venv/requirements.lock || { \
	  echo "setting up .venv from requirements.lock ..." && \
	  rm -rf .venv && python3 -m venv .venv && \
	  $(PY) -m pip install --quiet --disable-pip-version-check "$$(grep -o '^uv==[^ ;]*' requirements.lock)" && \
	  .venv/bin/uv pip sync --quiet --python $(PY) requirements.lock && \
	  cp requirements.lock .venv/requirements.lock; }

tune: setup ## search: make tune [SPACE=separate_lr] [ARGS="--trials 32 --memory-budget-mib 60"]
	@$(PY) launch.py --space $(SPACE) $(ARGS)

test: setup ## the tests, real servers and a real kill included (a few minutes)
	@$(PY) -m pytest $(SPREAD) -m "not slow" $(ARGS)

test-all: setup ## every test, the slow ones too
	@$(PY) -m pytest $(SPREAD) $(ARGS)

lint: setup ## ruff, mypy, import-linter
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/lint-imports --no-cache

format: setup ## rewrite the code in the house's format
	@.venv/bin/ruff check --fix . ; .venv/bin/ruff format .

lock: setup ## compute requirements.lock anew from pyproject.toml
	@.venv/bin/uv pip compile --quiet --universal --no-emit-index-url --no-header --python-version 3.11 \
	  --group dev pyproject.toml --output-file requirements.lock

ui: setup ## the MLflow UI on the studies under runs/, at http://127.0.0.1:5000
	@$(PY) -m tuner ui

clean: ## remove .venv and caches; runs/ stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache && find . -name __pycache__ -type d -prune -exec rm -rf {} +
