# make run: a real download on the embedded sandbox.   make test: all tests.   make check: lint, types.
# make build: the components.   make publish: those that have changed, to AWS.
# make coverage: the tests, and what they leave out.   make release: a dry run of a release.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2

.PHONY: run test coverage check format schema build publish release clean

run: .venv/ready
	$(BIN)/python -m sandbox.demo

test: .venv/ready
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

coverage: .venv/ready
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --cov --cov-report=term-missing:skip-covered

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: .venv/ready
	$(BIN)/python -m tools.schema docs/schema
	$(BIN)/python -m tools.asyncapi docs

build: .venv/ready
	./build_all.sh

publish: .venv/ready
	./publish_all.sh

release: .venv/ready
	$(BIN)/python -m tools.release

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .coverage*

.venv/ready: pyproject.toml sandbox/setup.sh
	PYTHON=$(PYTHON) sandbox/setup.sh
	touch $@
