# Lianxin 联心. On a fresh machine with Python ≥ 3.11, make and git:
#   make demo         everything is set up, the demonstration county is built once, and the web server runs (PORT=8000)
#   make demo-reset   the same, from an empty database
#   make test         lint, types, floors, all tests (browser tests included)
#   make test-spark   that Spark links as DuckDB does (installs pyspark, needs a Java 17)
#   make format | lint | types | check | bench | clean
#   make bench-index | bench-accuracy   the index alone: speed and size; accuracy beside Splink and recordlinkage
# Each step of the set-up leaves a stamp in .venv/.done and is not repeated until what it depends on changes.
# The steps that look at the machine (Debian packages, PostgreSQL, Node) are in scripts/provide.py.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
  command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PORT ?= 8000
JOBS ?= 2
DONE := .venv/.done
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONPATH

STATIC_SOURCES := $(wildcard src/lianxin/portal/static_src/*) $(wildcard src/lianxin/portal/static_src/*/*) frontend/build.mjs $(shell grep -rlE "icon|empty_state" --include=*.html --include=nav.py src/lianxin)
STATIC_FILES := $(shell find src/lianxin -path '*/static/*' -type f -not -path '*/static/dist/*' 2>/dev/null)

.PHONY: setup demo demo-reset test test-spark lint format types check bench bench-index bench-accuracy clean distclean

setup: $(DONE)/python $(DONE)/system $(DONE)/postgres $(DONE)/static $(DONE)/viewer

$(DONE)/venv:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or run make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) scripts/provide.py venv .venv
	@mkdir -p $(DONE) && touch $@

$(DONE)/python: requirements/dev.txt pyproject.toml | $(DONE)/venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(DONE)/system: scripts/provide.py scripts/debian-packages.txt | $(DONE)/venv
	@if $(BIN)/python scripts/provide.py system; then touch $@; else echo 'going on without them' >&2; fi

$(DONE)/postgres: requirements/postgres.txt | $(DONE)/python
	$(BIN)/python scripts/provide.py postgres
	@touch $@

node_modules/.package-lock.json: package.json package-lock.json | $(DONE)/python
	$(BIN)/python scripts/provide.py node -- npm ci --no-fund --no-audit --loglevel=error
	@touch $@

$(DONE)/assets: node_modules/.package-lock.json $(STATIC_SOURCES)
	$(BIN)/python scripts/provide.py node -- node frontend/build.mjs
	@touch $@

# The image viewer: fetched as one archive held against its hash, made small; served by the imaging room and not by collectstatic.
$(DONE)/viewer: node_modules/.package-lock.json frontend/viewer.mjs $(wildcard frontend/viewer/*)
	$(BIN)/python scripts/provide.py node -- node frontend/viewer.mjs
	@touch $@

$(DONE)/static: $(DONE)/assets $(STATIC_FILES) src/lianxin/config/settings.py | $(DONE)/python
	@rm -rf staticfiles
	$(BIN)/django-admin collectstatic --settings lianxin.config.settings --noinput --verbosity 0
	@touch $@

demo: setup
	@PORT=$(PORT) exec $(BIN)/lianxin demo

demo-reset: setup
	@PORT=$(PORT) exec $(BIN)/lianxin demo --reset

lint: $(DONE)/python
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/djlint --lint --quiet src

format: $(DONE)/python
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(DONE)/python
	$(BIN)/mypy

# Other people's FHIR clients, which only tests use: make demo does without them.
CLIENTS := tests/clients/js
$(CLIENTS)/node_modules/.package-lock.json: $(CLIENTS)/package.json $(CLIENTS)/package-lock.json | $(DONE)/python
	$(BIN)/python scripts/provide.py node -- npm ci --prefix $(CLIENTS) --ignore-scripts --no-fund --no-audit --loglevel=error
	@touch $@

test: setup lint types $(CLIENTS)/node_modules/.package-lock.json
	$(BIN)/lint-imports
	# the same examples in every run; compiled modules are kept, for the tests start many processes
	PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(JOBS)

# Spark is needed by nobody but those who link more people than one machine holds; a Java 17 must be there.
$(DONE)/spark: requirements/spark.txt | $(DONE)/python
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements/spark.txt
	@touch $@

test-spark: setup $(DONE)/spark
	LIANXIN_SPARK=1 $(BIN)/python -m pytest -p no:xdist tests/index/test_batch_spark.py

check: setup
	$(BIN)/lianxin check

bench: setup
	$(BIN)/python -m benchmarks

bench-index: setup
	$(BIN)/python -m benchmarks.index $(OPTIONS)

# Other people's matchers, which only this benchmark uses, in an environment of their own.
$(DONE)/peers: requirements/bench.txt | $(DONE)/venv
	$(PYTHON) scripts/provide.py venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --require-hashes -r requirements/bench.txt
	@touch $@

bench-accuracy: setup $(DONE)/peers
	$(BIN)/python -m benchmarks.index_accuracy $(OPTIONS)

clean:
	rm -rf .venv .venv-bench .bench node_modules $(CLIENTS)/node_modules staticfiles src/lianxin/portal/static/dist src/lianxin/regional/imaging/dist build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

distclean:
	@test ! -x $(BIN)/python || $(BIN)/python -c "from pathlib import Path; from lianxin.config import postgres; postgres.destroy(Path('.lianxin'))"
	rm -rf .lianxin
	$(MAKE) clean
