PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

TASK ?= mahanews-shc
STUDY ?= .bench/study/$(TASK)
STUDY_RUN := --task $(TASK) --variants study,ft --standard --out $(STUDY)

export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: bench study test lint types imports test-slow benchmarks proof proof-gate clean

bench: $(INSTALLED)
	$(BIN)/bench run --variants all

# Goes on where a run was broken off. Where that is refused, since the code or a library changed, STUDY=FOLDER starts
# a new run there and keeps the old one. Exit status 1 is a variant that failed: its cells say so.
study: $(INSTALLED)
	$(BIN)/bench run $(if $(wildcard $(STUDY)/options.json),--resume $(STUDY),$(STUDY_RUN)) || test $$? -eq 1
	$(BIN)/bench study $(STUDY)

test: lint types imports
	$(BIN)/pytest -m "not slow"

test-slow: $(INSTALLED)
	$(BIN)/pytest -m slow

benchmarks: $(INSTALLED)
	$(BIN)/pytest benchmarks/test_cost.py benchmarks/test_scale.py benchmarks/test_pruning.py -s --benchmark-columns=median,iqr,rounds

proof: $(INSTALLED)
	$(BIN)/pytest benchmarks/test_measuring.py -s --benchmark-columns=median,iqr,rounds

proof-gate: $(INSTALLED)
	$(BIN)/pytest benchmarks/test_gate.py -s --benchmark-columns=median,iqr,rounds

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

imports: $(INSTALLED)
	$(BIN)/lint-imports

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .bench build dist *.egg-info
