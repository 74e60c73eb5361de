# Everything sets itself up: a virtual environment in .venv, from the versions in requirements.lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
KERNELS := $(VENV)/.kernels

.PHONY: demo test lint lock clean

$(INSTALLED): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --requirements requirements.lock --editable .
	touch $@

# numba's cache of a kernel does not notice a change in a function that the kernel takes from another file.
$(KERNELS): $(INSTALLED) $(shell find gneiss -name '*.py')
	find gneiss -name '*.nb[ic]' -delete
	touch $@

demo: $(KERNELS)  ## curate a real corpus; say where the result is and what happened to it
	$(BIN)/gneiss demo demo

test: $(KERNELS) lint  ## the whole test suite
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: pyproject.toml  ## write requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --no-emit-index-url --no-header --no-annotate --extra notebook --extra bench --group test -o requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) demo dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
