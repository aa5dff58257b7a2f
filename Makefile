# make demo    install, and run the whole pipeline on bundled data (about 2 minutes on 2 cores)
# make test    run the tests
# make check   lint, types and tests
# make bench   benchmarks
# make soak    kill and resume a training and an evaluation 100 times each; open 100,000 damaged and hostile files
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test soak lint types check bench clean

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -e '.[dev]'
	touch $(READY)

demo: $(READY)
	$(BIN)/laat demo

# one thread per worker: two workers with two threads each are several times slower on two cores
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

# compares every byte of the results with those of uninterrupted runs
soak: $(READY)
	OMP_NUM_THREADS=1 LAAT_SOAK_KILLS=100 $(BIN)/python -m pytest -k killed \
		tests/laatcli/test_resume.py tests/stages/evaluation/test_resume_eval.py
	OMP_NUM_THREADS=1 LAAT_FUZZ_CASES=100000 $(BIN)/python -m pytest -rP tests/fuzz

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

check: lint types test

bench: $(READY)
	$(BIN)/python tests/benchmarks/bench.py
	$(BIN)/python tests/benchmarks/evaluation.py
	$(BIN)/python tests/benchmarks/growth.py

clean:
	rm -rf $(VENV) demo build dist *.egg-info
