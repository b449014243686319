# `make demo` and `make test` on a fresh machine do everything, the virtual environment included.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export TOKENIZERS_PARALLELISM := false

.PHONY: help demo test test-all lint format clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || { \
	  echo "error: $$($(PYTHON) --version) found, Python 3.11 or 3.12 is needed; name one: make PYTHON=python3.11"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "error: $(PYTHON) has no venv module; on Debian: apt-get install python3-venv"; exit 2; }
	@echo "installing into $(VENV) (torch alone is 5 GB; once)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo,test]'
	@touch $@

test: $(STAMP) lint  ## linters and the tests that end in minutes
	$(BIN)/python -m pytest -n 2 -m 'not slow and not gpu'

test-all: $(STAMP) lint  ## every test, the slow ones too
	$(BIN)/python -m pytest -n 2

lint: $(STAMP)  ## ruff, check and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP)  ## rewrite in ruff's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
