# `make demo` and `make test` are the two commands a newcomer needs; each prepares .venv/ first, once.
# What a check runs stands in noxfile.py; this file only makes sure that there is an environment to run it in.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.prepared

# Everything a command writes stays in this folder (but for pip's own cache).
SCRATCH := $(CURDIR)/build/tmp
export TMPDIR := $(SCRATCH)
export DPT_DEPLOY_CACHE := $(CURDIR)/build/cache
export PIP_NO_INPUT := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The commands work on .venv/, whatever environment the shell has active.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help setup demo test cpp fuzz lint types layers online wheel gpu-kit clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

# The stamp is written last and says for which folder and which requirements the environment is good, so that a second
# run is instant, an interrupted one starts over, and a change of either file (or a moved folder) is noticed.
setup: ## prepare .venv/ with the tested set of packages
	@mkdir -p '$(SCRATCH)'
	@wanted="$(CURDIR) $$(cat pyproject.toml constraints.txt | cksum)"; \
	if [ "$$(cat $(STAMP) 2>/dev/null)" = "$$wanted" ]; then exit 0; fi; \
	set -eu; \
	here=$$(sed 's/ [0-9]* [0-9]*$$//' $(STAMP) 2>/dev/null || true); \
	rm -f $(STAMP); \
	if [ "$$here" != "$(CURDIR)" ] || ! $(RUN) -m pip --version >/dev/null 2>&1; then \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	    { echo "make: $(PYTHON) is not Python 3.11 or later; name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }; \
	  rm -rf $(VENV); \
	  $(PYTHON) -m venv $(VENV); \
	fi; \
	$(RUN) -m pip install --upgrade pip; \
	$(RUN) -m pip install -e '.[all,oracle,rtx]' --group dev -c constraints.txt; \
	echo "$$wanted" > $(STAMP)

demo: setup ## the main job on a photograph, offline: export, verify, predict, time; results in out/demo/
	@$(RUN) -m dpt_deploy demo -o out/demo

test: setup ## every check: lint, types, layers, tests
	@$(RUN) -m nox

cpp: setup ## build the C++ runtime into build/cpp/ (libdpt.so, dpt_run, dpt_bench)
	@$(RUN) -m nox -s cpp

fuzz: setup ## damaged sidecars and images for the C++ readers, five minutes each (needs Clang)
	@$(RUN) -m nox -s fuzz

lint: setup ## style and formatting (ruff)
	@$(RUN) -m nox -s lint

types: setup ## types (mypy, strict)
	@$(RUN) -m nox -s types

layers: setup ## the architecture (import-linter)
	@$(RUN) -m nox -s layers

online: setup ## download the published weights and hold them to known outputs
	@$(RUN) -m nox -s online

wheel: setup ## build the wheel into dist/
	@$(RUN) -m build --wheel

gpu-kit: setup ## pack what a GPU machine without a registry lacks into build/gpu-kit/ (16 minutes of one core)
	@$(RUN) kit/pack.py

clean: ## remove everything that was made here, the environment included
	rm -rf $(VENV) .nox build dist out *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
