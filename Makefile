# Every chore of the project. `make help` lists them. Nothing here calls sudo; what only root can do is named.
#
#   PORT=8800           the dashboard's port           STUDIOLO_HOME=...   the data folder
#   DETACH=1            `make up` returns once all runs    ARGS="-k edge"  more arguments for pytest

PYTHON ?= python3
BIN := .venv/bin
LOCK := $(BIN)/uv pip compile --universal --generate-hashes --no-header --python-version 3.11 --quiet

.DEFAULT_GOAL := help
.PHONY: help up down test lint format types imports check docs bench lock clean install dev

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: ## install, start Studiolo, make the first workspace and print one sign-in link
	@$(PYTHON) bootstrap.py up $(if $(PORT),--port '$(PORT)') $(if $(filter-out 0,$(DETACH)),--detach)

down: ## stop Studiolo and every workspace
	@$(BIN)/studiolo down --yes

install: ## .venv as `make up` makes it, without starting anything
	@$(PYTHON) bootstrap.py install

dev: ## .venv with what tests, linters and benchmarks need
	@$(PYTHON) bootstrap.py install --dev

test: dev ## all tests; skips are listed with their reasons
	@$(BIN)/python tests/integration/built.py
	@$(BIN)/pytest -rs $(ARGS)

lint: dev ## style, as CI checks it
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

format: dev ## bring the style in order
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

types: dev ## mypy, strict
	@$(BIN)/mypy
	@$(BIN)/mypy tests/integration/conftest.py
	@$(BIN)/mypy tests/browser/conftest.py

imports: dev ## the house's floors: who may import whom
	@$(BIN)/lint-imports

check: lint types imports ## all that needs no run

docs: dev ## write the generated pages of docs/ anew
	@$(BIN)/python docs/generate.py

bench: dev ## every headline figure, side by side with a peer; writes benchmarks/README.md
	@$(BIN)/python -m benchmarks

lock: dev ## newest versions that fit pyproject.toml, into the three locks
	@$(LOCK) --upgrade pyproject.toml -o requirements.lock
	@$(LOCK) --upgrade pyproject.toml --group dev -c requirements.lock -o requirements-dev.lock
	@printf 'hatchling>=1.27\neditables\n' | $(LOCK) --upgrade - -o requirements-build.lock

clean: ## everything these targets made, except people's data
	@rm -rf .venv .benchmarks .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis test-results dist
	@find src tests benchmarks docs -name __pycache__ -prune -exec rm -rf {} +
