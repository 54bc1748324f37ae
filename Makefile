# Nothing but Python 3.11+, git and make is needed; everything lands in .venv/ and .headrace/.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# One process a core; a file's tests stay together, since they share their servers.
PARALLEL := -n auto --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-contract test-attacks test-long lint up down lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(READY) ## build .venv/ from the hashed lock

$(READY): requirements.lock requirements-build.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Headrace needs Python 3.11 or newer, and $(PYTHON) is older." >&2; \
	    echo "Install one and run: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing the locked dependencies into .venv/ (a few minutes the first time)"
	@$(BIN)/python -m pip install -q --require-hashes --no-deps -r requirements-build.lock
	@$(BIN)/python -m pip install -q --require-hashes --no-deps --no-build-isolation -r requirements.lock
	@$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@mkdir -p .headrace
	@touch $@

demo: $(READY) ## a year of real flights through the whole loop
	@$(BIN)/headrace demo

test: $(READY) ## every test that needs nothing from outside
	@$(BIN)/python -m pytest $(PARALLEL)

test-contract: $(READY) ## the storage contract; LAKEFS_ENDPOINT=... runs it against a real lakeFS
	@$(BIN)/python -m pytest tests/contract

test-long: $(READY) ## the slow tests too
	@$(BIN)/python -m pytest $(PARALLEL) -m "long or not long"

test-attacks: $(READY) ## the list of attacks, one test each
	@$(BIN)/python -m pytest tests/attacks

lint: $(READY) ## ruff, mypy --strict over every package, and who may import whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache --no-logo

up: $(READY) ## start the lake, Prefect, a worker and the prediction service
	@$(BIN)/headrace up

down: $(READY) ## stop them
	@$(BIN)/headrace down

lock: ## compile requirements.lock and requirements-build.lock (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-emit-package pandas --custom-compile-command "make lock" \
	  --all-extras pyproject.toml -o requirements.lock
	printf 'setuptools>=77\nwheel\n' | uv pip compile -q --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" - -o requirements-build.lock

clean: ## remove .venv/ and caches; .headrace/ (your data) stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
