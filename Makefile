# `make run`, `make test` and `make dev` set up what they need, then do their job.
SHELL := /bin/bash
VENV := .venv
PYTHON ?= python3
PORT ?= 3000
UV = $(shell command -v uv || echo $(VENV)/uv/bin/uv)
# torch: a folder of wheels from the environment, else the build that fits this machine's GPU or the lack of one.
WHEELS := $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS),--torch-backend auto)
MANIFEST := dbt_gold/target/manifest.json
DBT_FILES := $(shell find dbt_gold -path dbt_gold/target -prune -o \( -name '*.sql' -o -name '*.yml' \) -print)

# Object store, broker, Postgres and key-value store as real servers on loopback, and the settings that name them.
STACK_FOLDER ?= .stack
OF_STACK := --folder $(STACK_FOLDER)
ON_STACK := $(if $(STACK),seamless stack up $(OF_STACK) >&2 && eval "$$(seamless stack env $(OF_STACK))" &&)

export DAGSTER_HOME := $(CURDIR)
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: run dev test setup lock clean help .env.example

help: ## Show what can be made.
	@grep -hE '^[a-z.]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: setup ## Materialise the whole graph on the samples, or on INPUT=DIR; on the local stack with STACK=1.
	@$(ON_STACK) seamless run $(if $(INPUT),--input "$(INPUT)")

dev: setup ## Open the graph in the Dagster UI at http://127.0.0.1:3000, or at another PORT=; on the local stack with STACK=1.
	@$(ON_STACK) dagster dev --port $(PORT)

test: setup ## Lint, check types and layers, and run every test.
	@ruff check && ruff format --check
	@lint-imports
	@ty check --quiet
	@pytest -n auto --maxprocesses 4 --no-loadscope-reorder

setup: $(VENV)/installed $(MANIFEST) ## Install what is locked, once.

$(VENV)/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=…")'
	@command -v uv >/dev/null || test -x $(VENV)/uv/bin/uv || { \
	  $(PYTHON) -m venv $(VENV)/uv 2>/dev/null && $(VENV)/uv/bin/pip install --quiet uv; } || { \
	  echo "uv is needed: install it, or Python's venv (apt-get install python3-venv)" >&2; rm -rf $(VENV)/uv; exit 1; }
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	@$(UV) pip install --quiet --python $(VENV)/bin/python --compile-bytecode $(WHEELS) -r requirements.lock
	@$(UV) pip install --quiet --python $(VENV)/bin/python --no-deps --editable .
	@touch $@

$(MANIFEST): $(DBT_FILES) $(VENV)/installed
	@dbt --quiet parse --project-dir dbt_gold --profiles-dir dbt_gold
	@touch $@

lock: ## Resolve pyproject.toml anew into requirements.lock.
	@# What one build of torch needs for a GPU is left out: that build brings it, the other does without.
	@$(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --extra dev --extra stack --extra k8s --no-header --no-annotate pyproject.toml \
	  | grep -vE '^(nvidia|cuda|triton)' > requirements.lock

.env.example: setup
	@python -c 'from resources.settings import env_example; print(env_example(), end="")' > $@

clean: ## Forget tables, models and runs; keep the environment.
	rm -rf .lake .signals .decisions .mlflow .cache .dagster dbt_gold/target
