# make run: a real download on the embedded sandbox.   make test: all tests.   make check: lint, types.
# make build: the components.   make publish: those that have changed, to AWS.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2

.PHONY: run test check format schema build publish clean

run: .venv/ready
	$(BIN)/python -m sandbox.demo

test: .venv/ready
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: .venv/ready
	$(BIN)/python -m s3downloader.contract.schema docs/schema
	$(BIN)/python -m s3downloader.contract.asyncapi docs

build: .venv/ready
	./build_all.sh

publish: .venv/ready
	./publish_all.sh

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache

.venv/ready: pyproject.toml sandbox/setup.sh
	PYTHON=$(PYTHON) sandbox/setup.sh
	touch $@
