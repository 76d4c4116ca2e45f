# `make demo`, `make test` and `make serve` set up all they need, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
DEVELOP := $(VENV)/installed-dev
DOCUMENTED := $(VENV)/installed-docs
PACKAGES := $(VENV)/installed-packages
TESTS ?=

SECONDS ?= 60
THREADS ?= 32
TASKS ?= 20
SEED ?=

MEASURES ?=
ROUNDS ?= 30
BENCHED := $(VENV)/installed-bench
# Each installed separately: one that doesn't install here must not keep the others out.
RIVALS := django-async-backend django-vpg[async] django-db-connection-pool django-db-geventpool django-pg-real-pool gevent

.PHONY: demo test test-packages serve lint format docs test-all django-tests dist soak faults bench clean

demo: $(INSTALLED)
	@$(BIN)/python -m testproject.demo

serve: $(INSTALLED)
	@$(BIN)/python -m testproject.demo --serve

test: $(INSTALLED)
	@$(BIN)/python -m pytest -q -n 3 --dist loadfile

# The packages that people run with Django, as far as they support the installed Django.
test-packages: $(PACKAGES)
	@$(BIN)/python -m pytest -q -n 3 --dist loadfile -rs tests/packages

# Django's own tests with this engine, all of them, and those of PostGIS where that is installed.
django-tests: $(INSTALLED)
	@$(BIN)/python -m tests.conformance.django_suite --all
	@$(BIN)/python -m tests.conformance.django_suite --postgis

# Each supported Django on its Python; a Python that isn't installed is skipped.
# TESTS="tests/faults" runs some of the tests, TOXENV=py313-django61 one of the versions.
test-all: $(DEVELOP)
	@$(BIN)/python -m tox run --skip-missing-interpreters true -- $(TESTS)

# Random faults for as long as you like: make soak SECONDS=600 SEED=7
soak: $(INSTALLED)
	@$(BIN)/python -m tests.soak --seconds $(SECONDS) --threads $(THREADS) --tasks $(TASKS) $(if $(SEED),--seed $(SEED))
	@$(BIN)/python -m tests.soak --seconds $(SECONDS) --budget $(if $(SEED),--seed $(SEED))

# What faults cost, compared with Django's own pool.
faults: $(INSTALLED)
	@$(BIN)/python -m tests.faults.compare

# Speed, compared with other pools: make bench, or part of it:
# make bench MEASURES="request slow" ROUNDS=90
# A full run writes the figures in docs.
bench: $(BENCHED)
	@$(BIN)/python -m testproject.bench $(MEASURES) --rounds $(ROUNDS) \
		$(if $(MEASURES),,--output docs --docs docs/benchmark.md)

# Wheel and sdist, each tried in its own environment.
dist: $(DEVELOP)
	@rm -rf dist
	@$(BIN)/python -m tests.release

lint: $(DEVELOP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.prose *.md docs django_pooled_pg

# The documentation as a site; a broken link is an error.
docs: $(DOCUMENTED)
	@$(BIN)/python -m sphinx -W --keep-going -n -q docs docs/_build/html
	@echo "See docs/_build/html/index.html"

format: $(DEVELOP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .venv-oldest docs/_build .tox .mypy_cache .ruff_cache .pytest_cache .import_linter_cache dist

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is not Python 3.11 or newer. Run: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2> /dev/null || \
		{ echo "$(PYTHON) can't set up $(VENV): it lacks ensurepip. On Debian and Ubuntu:" \
		"apt install python3-venv"; exit 1; }
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

$(DEVELOP): $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

$(DOCUMENTED): $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	@touch $@

# All at once, which is fast; or else each separately: one that doesn't support this Django must not
# keep the others out.
$(PACKAGES): $(INSTALLED) tests/packages/requirements.txt
	@$(BIN)/python -m pip freeze | grep -i "^django==" > $(VENV)/here.txt
	@install="$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(VENV)/here.txt"; \
	$$install --requirement tests/packages/requirements.txt 2> $(VENV)/refused.txt || \
	grep '^[a-z]' tests/packages/requirements.txt | while read -r package; do \
		$$install "$$package" || echo "$$package doesn't install here; its tests are skipped."; \
	done
	@touch $@

$(BENCHED): $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@for rival in $(RIVALS); do \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$rival" || \
			echo "$$rival doesn't install here; the benchmark goes on without it."; \
	done
	@touch $@
