# `make demo` and `make test` are the two commands a newcomer needs. Each one prepares .venv/ first, once.
# noxfile.py defines the checks. This file only makes sure that there is an environment to run them in.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.prepared

# Everything a command writes stays in this folder, except pip's own cache.
SCRATCH := $(CURDIR)/build/tmp
export TMPDIR := $(SCRATCH)
export DPT_DEPLOY_CACHE := $(CURDIR)/build/cache
export PIP_NO_INPUT := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The commands use .venv/, even if another environment is active in the shell.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help setup demo check test docs cpp fuzz serve-test lint types layers online online-kit wheel lock gpu-kit clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

# pylock.toml has the hash of every package, for one interpreter and platform: pip checks them. Elsewhere, and with
# `make LOCK= setup` for those who install from another index than PyPI, it is the versions of constraints.txt.
LOCK ?= pylock.toml
export LOCKED := import platform, sys; sys.exit((sys.version_info[:2], sys.platform, platform.machine()) != ((3, 11), "linux", "x86_64"))

# The stamp is written last. It records the folder and the requirements that the environment was made for. A second run
# is therefore instant, an interrupted one starts again, and a changed requirement or a moved folder is noticed. Python
# compiles what is imported; pip would compile 17,000 modules one after another.
setup: ## prepare .venv/ with the tested set of packages
	@mkdir -p '$(SCRATCH)'
	@wanted="$(CURDIR) $$(cat pyproject.toml constraints.txt pylock.toml | cksum)"; \
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
	if [ -n '$(LOCK)' ] && $(RUN) -c "$$LOCKED"; then \
	  $(RUN) -m pip install --no-compile -r '$(LOCK)'; \
	  $(RUN) -m pip install --no-deps --no-build-isolation -e .; \
	else \
	  $(RUN) -m pip install --no-compile -e '.[all,openvino,oracle,rtx,ros,polygraphy]' --group dev -c constraints.txt; \
	fi; \
	echo "$$wanted" > $(STAMP)

demo: setup ## export, verify, run and time a small model on a photograph, offline; results in out/demo/
	@$(RUN) -m dpt_deploy demo -o out/demo

check: setup ## the inner loop: lint, types, layers and the fast tests
	@$(RUN) -m nox -s check

test: setup ## every check: lint, types, layers, all tests
	@$(RUN) -m nox

docs: setup ## build the documentation into build/docs/
	@$(RUN) -m nox -s docs

cpp: setup ## build the C++ runtime into build/cpp/ (libdpt.so, dpt_run, dpt_bench)
	@$(RUN) -m nox -s cpp

fuzz: setup ## fuzz every reader in Python, and the C++ sidecar and image readers (needs Clang)
	@$(RUN) -m nox -s fuzz

serve-test: setup ## a real Triton server on the repositories that serve-repo writes (Linux x86-64, Python 3.11)
	@$(RUN) -m nox -s serve

lint: setup ## style and formatting (ruff)
	@$(RUN) -m nox -s lint

types: setup ## types (mypy, strict)
	@$(RUN) -m nox -s types

layers: setup ## import rules between rooms (import-linter)
	@$(RUN) -m nox -s layers

online: setup ## download the published weights and compare them with known outputs
	@$(RUN) -m nox -s online

wheel: setup ## build the wheel into dist/
	@$(RUN) -m build --wheel

lock: setup ## write pylock.toml again after a change of requirements (needs the network)
	@$(RUN) tools/lock.py

online-kit: setup ## check every published checkpoint from end to end, into one results file (needs the network)
	@$(RUN) tools/online_kit/check_published.py

gpu-kit: setup ## pack everything an offline GPU machine needs into build/gpu-kit/ (slow)
	@$(RUN) tools/gpu_kit/pack.py

clean: ## remove everything made here, including the environment
	rm -rf $(VENV) .nox build dist out *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
