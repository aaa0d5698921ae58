# The two commands:  make demo   the whole path on a synthetic head      make test   installs what tests need, and runs them
# make setup makes .venv with everything that both need.

PYTHON ?= python3
BIN := .venv/bin

# a virtual environment holds absolute paths: one in a copied or moved folder would run the code of the old place
MOVED := $(if $(wildcard $(BIN)/corewatch),$(if $(shell grep -F '$(CURDIR)/$(BIN)/python' $(BIN)/corewatch),,moved))

.PHONY: help setup demo test check lock clean moved

help:
	@sed -n '1,2s/^# //p' Makefile

setup: .venv/ready

.venv/ready: requirements/locked.txt pyproject.toml scripts/check-python.sh $(MOVED)
	@sh scripts/check-python.sh $(PYTHON)
	$(PYTHON) -m venv $(if $(MOVED),--clear) .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/locked.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch .venv/ready

moved:
	@echo "the environment in .venv belongs to another folder: making it again"

demo: setup
	@$(BIN)/corewatch demo $(if $(KEEP),--keep)

test: setup
	@sh scripts/install-test-tools.sh
	$(BIN)/python -m pytest -q -n 2 tests/unit tests/contract
	$(BIN)/python -m pytest -q -n 3 --dist loadfile tests/integration

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# update the locked requirements (needs uv): those of the tests, and the same versions for the images
LOCK := uv pip compile pyproject.toml --extra postgres --generate-hashes --no-emit-index-url --no-emit-find-links \
	--python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-header -q
lock:
	$(LOCK) --upgrade --extra cpu --extra dev -o requirements/locked.txt
	$(LOCK) --extra cpu -c requirements/locked.txt -o requirements/runtime.txt
	$(LOCK) --extra cuda -c requirements/locked.txt -o requirements/cuda.txt

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
