# `make bench` and `make test` set up everything they need in .venv; a second call installs nothing again.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PLUGINS := $(filter-out plugins/template,$(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml)))
# One thread a worker: two test processes on two cores don't fight over them.
PYTEST  := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile
# What a few attacks of the wrapped libraries need besides; their tests are to run.
EXTRAS  := plugins/robustkit-art[all] plugins/robustkit-foolbox[brendel-bethge]
PROJECTS := Makefile pyproject.toml $(addsuffix /pyproject.toml,$(PLUGINS)) constraints.txt

.PHONY: bench test test-all lint types layers docs site clean

bench: $(VENV)/.installed
	$(BIN)/robustkit bench --defense pgd_at --attacks fgsm,pgd

test: $(VENV)/.installed-test
	$(PYTEST) -m "not slow" tests plugins

test-all: $(VENV)/.installed-test
	$(PYTEST) tests plugins

lint: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.installed-test
	$(BIN)/mypy

layers: $(VENV)/.installed-test
	$(BIN)/lint-imports

# Renews the pages under docs/ that are generated from the code.
docs: $(VENV)/.installed-test
	$(BIN)/python docs/generate.py

# Builds the docs site into build/site.
site: $(VENV)/.installed-test
	$(BIN)/python docs/build_site.py

$(VENV)/bin/pip:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "RobustKit needs Python 3.11 or newer; run: make PYTHON=python3.11 ..."'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/pip $(PROJECTS)
	$(BIN)/pip install --constraint constraints.txt --editable . $(foreach p,$(PLUGINS),--editable $(p))
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --constraint constraints.txt --editable '.[test]' $(foreach p,$(EXTRAS),--editable '$(p)')
	touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
