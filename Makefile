.DEFAULT_GOAL := help
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(BIN)/uv
UV_VERSION := 0.13.9
export UV_PROJECT_ENVIRONMENT := $(VENV)
# Or uv takes another Python when the user's UV_PYTHON says so, and makes .venv, in which it lives, anew.
export UV_PYTHON := $(CURDIR)/$(BIN)/python
# Everything fetched or built for this checkout stays inside it, so that `make clean` leaves the machine as it was.
export SAILPLANE_CACHE ?= $(CURDIR)/.cache
export UV_CACHE_DIR ?= $(CURDIR)/.cache/uv
export PIP_CACHE_DIR ?= $(CURDIR)/.cache/pip
# Or each of the tests' three workers compiles all of the tests anew, for 2.4 s of CPU.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test strict clients deployed fuzz infra sim mutants lint check fmt bench clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.synced ## Make .venv with everything in it, exactly as locked

$(VENV)/.synced: pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Sailplane needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1)."; \
	  echo "Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@# `activate` is written last: without it the environment is one that was broken off, or has no pip, as Debian's Python makes
	@# it without python3-venv. It is made again then.
	@test -f $(BIN)/activate || { echo "Making $(VENV)."; $(PYTHON) -m venv $(VENV); }
	@$(UV) --version 2>/dev/null | grep -q " $(UV_VERSION)" || \
	  $(BIN)/python -m pip --quiet --disable-pip-version-check install uv==$(UV_VERSION)
	@echo "Installing what uv.lock names into $(VENV): some 20 s, more when it has to be downloaded."
	@# Compiled once here, and not by each worker of the first test run for itself: Google's SDK alone takes seconds.
	$(UV) sync --quiet --locked --inexact --all-extras --compile-bytecode
	@touch $@

demo: setup ## Show the whole path on this machine: deploy, call, break, scale, sleep, wake (under 3 minutes)
	$(BIN)/python examples/demo.py

test: setup ## Run the tests
	@# A third of the time is waiting for processes: three workers keep two cores busy. By file, or every worker starts its own
	@# stacks; in order, which is long ones first (tests/conftest.py).
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

strict: setup ## Run the store's tests on Amazon's DynamoDB Local (needs Java 17 and npm)
	$(BIN)/pytest -m strict_store tests/store

clients: setup ## Ask a service with nine stock clients: plain, streaming and cold (needs npm)
	$(BIN)/pytest -m clients tests/clients

deployed: setup ## Deploy the control plane and the edges into clouds that stand on this machine, use it, remove it
	$(BIN)/pytest -m deployed tests/deployed

fuzz: setup ## Ask the API what its OpenAPI document allows, and what it does not, by the thousand
	$(UV) sync --quiet --locked --inexact --all-extras --group fuzz
	$(BIN)/pytest -m fuzz tests/api

infra: setup ## Lint the stack that is deployed into AWS and its policies: cfn-lint, checkov, parliament
	$(UV) venv --quiet --allow-existing .cache/lint
	$(UV) pip sync --quiet --require-hashes --python .cache/lint infra/lint-requirements.txt
	$(BIN)/python -m infra.lint .cache/lint/bin

YEARS ?= 5
sim: setup ## Run YEARS=5 simulated years of drawn worlds on all cores: nothing lost, doubled or left behind
	$(BIN)/python -m sailplane.sim --years $(YEARS)

mutants: setup ## Plant bugs into the simulated worlds and show that the judges catch each (3 minutes)
	$(BIN)/python -m tests.sim.mutants

lint: setup ## Format, lint, types and the lock file
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(UV) lock --check --quiet

check: lint test ## Lint, types and tests: what must pass before anything lands

fmt: setup ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## Run the benchmarks and print their tables
	$(BIN)/python benchmarks/router_decision.py
	$(BIN)/python -m benchmarks.edge --seconds 1 --repeat 1
	$(BIN)/python benchmarks/path.py
	$(BIN)/python -m benchmarks.agent
	$(BIN)/python -m benchmarks.slow_cloud
	$(BIN)/python benchmarks/replay.py --minutes 3

clean: ## Remove everything that the other targets made
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
