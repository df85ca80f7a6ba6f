# `make` lists what there is. Everything runs in .venv, made from constraints.txt on first use.
.DEFAULT_GOAL := help
.PHONY: help install demo test test-all lint format clean
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := .venv/bin
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2  # two processes of one thread each

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: .venv/installed  ## make .venv with the tested versions and the development tools

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13) and "neuro_ssl needs Python 3.11 or 3.12; name one: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev]'
	@touch $@

demo: install  ## simulate, pretrain, fine-tune, report: about 6 minutes on 2 cores
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash experiments/demo/run.sh

test: install  ## the default tests: minutes, no network
	$(PYTEST)

test-all: install  ## all tests, the slow ones too
	$(PYTEST) -m ""

lint: install  ## formatting, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## put formatting and imports right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove .venv and caches; data and runs stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
