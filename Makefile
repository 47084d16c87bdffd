# Each target does everything on a fresh machine: environment, install, run.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= out
PYTEST ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test lint docs sanitize fuzz faults soak clean

demo: $(VENV)/.demo
	$(BIN)/posgan-edge demo --output $(OUT)

test: $(VENV)/.all lint
	$(BIN)/python -m pytest $(PYTEST)

lint: $(VENV)/.all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation site, under $(OUT)/site.
docs: $(VENV)/.all
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir $(abspath $(OUT))/site

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[detect,mesh]'
	touch $@

# PyTorch comes first and pinned, so that nothing pulls a CUDA build in.
$(VENV)/.all: $(VENV)/bin/python pyproject.toml constraints.txt $(wildcard cpp_ext/* cpp_ext/cmake/* cpp_ext/*/*.py cpp_ext/src/* cpp_ext/src/*/*)
	$(PIP) torch
	$(PIP) --editable '.[all]' ./cpp_ext
	touch $@

# The kernels' tests under the address and undefined-behaviour sanitizers, in a copy of their own.
SANITIZERS = $(shell gcc -print-file-name=libasan.so):$(shell gcc -print-file-name=libubsan.so)
sanitize: $(VENV)/.all
	$(PIP) --no-deps --upgrade --target $(OUT)/sanitized ./cpp_ext \
	  --config-settings=build-dir=$(CURDIR)/$(OUT)/sanitized-build \
	  --config-settings=cmake.define.POSGAN_SANITIZE=ON \
	  --config-settings=cmake.define.POSGAN_CUDA=OFF
	LD_PRELOAD=$(SANITIZERS) ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=$(OUT)/sanitized \
	  $(BIN)/python -m pytest -p no:cacheprovider tests/test_kernels.py tests/test_kernels_fuzz.py tests/test_track_filter.py

# Invented bad input for an hour; counts the outcomes.
fuzz: $(VENV)/.all
	mkdir -p $(OUT)
	$(BIN)/python -m tests.fuzz --seconds 3600 --json $(OUT)/reliability.json

# Every command that writes files, stopped and killed at many random moments; takes hours.
TRIALS ?= 40
faults: $(VENV)/.all
	POSGAN_FAULTS=$(TRIALS) $(BIN)/python -m pytest tests/faults

# A long live run: memory, descriptors and threads stay as they are after the first minutes.
MINUTES ?= 480
soak: $(VENV)/.all
	$(BIN)/python benchmarks/soak.py --minutes $(MINUTES) \
	  --json benchmarks/results/soak.json --plot benchmarks/results/soak.svg

clean:
	rm -rf $(VENV) $(OUT) build dist *.egg-info cpp_ext/build
