# make demo    install into .venv and watch the bundled policy at work
# make play    the page in the browser: ask the robot, watch it, drive it
# make test    the tests                     make check   lint, types and the tests
# PyBullet has wheels for Python 3.10 and 3.11. On newer ones everything but the simulators is installed and tested.
PYTHON ?= $(shell for p in python3.11 python3.10 python3.12 python3.13 python3; do $$p -c '' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: demo play test check clean

demo: $(VENV)/.demo
	$(BIN)/python examples/rollout.py --render

play: $(VENV)/.play
	$(BIN)/rf-agent play --open

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist loadfile

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --dist loadfile

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

clean:
	rm -rf $(VENV) build dist *.egg-info
