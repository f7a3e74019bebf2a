# make run: a real download on the embedded sandbox.   make test: all tests.   make check: lint, types.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test check format schema clean

run: .venv/ready
	$(BIN)/python -m sandbox.demo

test: .venv/ready
	$(BIN)/python -m pytest

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: .venv/ready
	$(BIN)/python -m s3downloader.contract.schema docs/schema

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache

.venv/ready: pyproject.toml sandbox/setup.sh
	PYTHON=$(PYTHON) sandbox/setup.sh
	touch $@
