# GNU make 3.81, which macOS has, is enough. `make PYTHON=/path/to/python3` chooses the interpreter,
# `make run ARGS="--port 9000"` says more to the command.

BIN := .venv/bin
UV := $(firstword $(wildcard $(BIN)/uv) uv)
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-annotate --custom-compile-command "make lock"

.PHONY: run test lint format types bench storm setup lock clean

# the demo agent on 127.0.0.1:8080
run: setup
	@exec $(BIN)/actorpool serve $(ARGS)

test: lint types
	@$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "not formatted: run make format" >&2; exit 1; }

format: setup
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

types: setup
	@$(BIN)/mypy

# bench names to run fewer: make bench ARGS="http_turn ask"
bench: setup
	@$(BIN)/python -m bench $(ARGS)

# replicas on one Redis are killed under load: make storm ARGS="--turns 5000 --seed 7"
storm: setup
	@$(BIN)/python -m tests.storm $(ARGS)

setup:
	@sh scripts/setup.sh

# keeps the pins that still fit; make lock UPGRADE=--upgrade takes the newest
lock:
	@command -v $(UV) >/dev/null || { echo "make lock needs uv: pip install uv" >&2; exit 1; }
	$(COMPILE) $(UPGRADE) pyproject.toml --all-extras --output-file requirements.lock
	$(COMPILE) $(UPGRADE) --group build --output-file requirements-build.lock
	$(COMPILE) $(UPGRADE) pyproject.toml --group dev --output-file requirements-dev.lock \
		--constraint requirements.lock --constraint requirements-build.lock

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
