# make demo    install into .venv and watch the bundled policy at work
# make play    the page in the browser: ask the robot, watch it, drive it
# make test    the tests                     make lint    lint, format and types    make check   both
# make docs    the pages of docs/ as a site, in site/
# make test-lerobot   the tests of integrations/lerobot with LeRobot itself, in an environment of their own (Python 3.12)
# make test-openpi    the server with openpi's own client, which needs an environment of its own (numpy 1)
# make wheel   a wheel and a source distribution, in dist
# make test-wheel     these, installed in an environment of their own outside the source tree; DOWNLOAD=1 lets pip fetch
#                     what the wheel needs, as a user's does, in place of links to what is installed here
# PyBullet has wheels for Python 3.10 and 3.11. On newer ones everything but the simulators is installed and tested.
PYTHON ?= $(shell for p in python3.11 python3.10 python3.12 python3.13 python3; do $$p -c '' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --constraint constraints.txt

LEROBOT_PYTHON ?= $(shell for p in python3.12 python3.13 "$$HOME"/.pyenv/versions/3.12*/bin/python python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && echo $$p && break; done)
LEROBOT_VENV ?= .venv-lerobot
# numpy 1 has no wheels for newer ones
OPENPI_PYTHON ?= $(shell for p in python3.11 python3.12 python3.10 python3; do $$p -c '' 2>/dev/null && echo $$p && break; done)
OPENPI_VENV ?= .venv-openpi

.PHONY: demo play test test-lerobot test-openpi wheel test-wheel lint check docs clean

demo: $(VENV)/.demo
	$(BIN)/python examples/rollout.py --render

play: $(VENV)/.play
	$(BIN)/rf-agent play --open

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist loadfile

# LeRobot holds other versions than constraints.txt; with torch's CUDA build, pip's choice on Linux, they take 5.5 GB.
test-lerobot: $(LEROBOT_VENV)/.test
	cd integrations/lerobot && $(abspath $(LEROBOT_VENV))/bin/python -m pytest

test-openpi: $(OPENPI_VENV)/.test $(VENV)/.dev
	RF_OPENPI_PYTHON=$(abspath $(OPENPI_VENV))/bin/python $(BIN)/python -m pytest -s tests/rf_agent/serving/test_openpi_client.py

# The wheel is built from the source distribution, so that neither holds what lies about in the source tree.
wheel: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m build --outdir dist

test-wheel: wheel
	RF_DIST=$(abspath dist) RF_DOWNLOAD=$(DOWNLOAD) $(BIN)/python -m pytest tests/test_release.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Editable, so that a change of the sources shows in the next demo or test.
$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable .
	touch $@

$(VENV)/.play: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable '.[play]'
	touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable '.[dev]'
	touch $@

$(VENV)/.docs: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable '.[docs]'
	touch $@

$(LEROBOT_VENV)/.test: pyproject.toml integrations/lerobot/pyproject.toml
	$(or $(LEROBOT_PYTHON),$(error LeRobot needs Python 3.12 or newer: name it, make test-lerobot LEROBOT_PYTHON=...)) \
		-m venv $(LEROBOT_VENV)
	$(LEROBOT_VENV)/bin/python -m pip install --quiet --editable . --editable 'integrations/lerobot[test]'
	touch $@

# openpi-client imports typing_extensions without saying that it needs it
$(OPENPI_VENV)/.test: Makefile
	$(OPENPI_PYTHON) -m venv $(OPENPI_VENV)
	$(OPENPI_VENV)/bin/python -m pip install --quiet openpi-client typing_extensions
	touch $@

clean:
	rm -rf $(VENV) .venv312 $(LEROBOT_VENV) $(OPENPI_VENV) site build dist *.egg-info
