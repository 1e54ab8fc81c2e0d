PYTHON ?= python3
BIN := .venv/bin
# Two files of tests at a time: most wait for processes that start.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: study test test-all lint clean

study: .venv/installed
	@if [ -e studies/quickstart/ledger.jsonl ]; then $(BIN)/python -m study resume quickstart; \
	else $(BIN)/python -m study run search_spaces/examples/quickstart.yaml; fi

test: .venv/installed-test lint
	$(PYTEST) --durations=10

test-all: .venv/installed-test
	$(PYTEST) -m slow --durations=20

lint: .venv/installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf .venv
