# `make` lists what there is. Everything runs in .venv, made from constraints.txt on first use.
.DEFAULT_GOAL := help
.PHONY: help install demo test test-all test-lowest lint docs format clean
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := .venv/bin
INSTALL ?= $(BIN)/pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev]'
LOWEST := .venv-lowest/bin
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2  # two processes of one thread each

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: .venv/installed  ## make .venv with the tested versions and the development tools

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13) and "neuro_ssl needs Python 3.11 or 3.12; name one: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(INSTALL)
	@touch $@

demo: install  ## simulate, pretrain, fine-tune, report: about 6 minutes on 2 cores
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash experiments/demo/run.sh

test: install  ## the default tests: minutes, no network
	$(PYTEST)

test-all: install  ## all tests, the slow ones too
	$(PYTEST) -m ""

# Where torch's oldest release is too large, UV_OVERRIDE names a file with another: torch==2.13.0
test-lowest:  ## the default tests with the oldest versions that pyproject.toml allows, in .venv-lowest
	$(PYTHON) -m venv .venv-lowest
	$(LOWEST)/pip install --disable-pip-version-check --quiet uv
	$(LOWEST)/uv pip install --python .venv-lowest --resolution lowest-direct -e '.[all]'
	$(LOWEST)/uv pip install --python .venv-lowest -e '.[test]'
	OMP_NUM_THREADS=1 $(LOWEST)/python -m pytest -n 2

lint: install  ## formatting, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: install  ## the documentation: docs/_build/html/index.html
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

format: install  ## put formatting and imports right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove .venv, built pages and caches; data and runs stay
	rm -rf .venv .venv-lowest docs/_build docs/generated .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
