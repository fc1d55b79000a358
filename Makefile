# Two commands for a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test bench bench-short clean

help:  ## say what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[langchain,test,lint]'
	@touch $@

setup: $(VENV)/ready  ## make .venv with everything the demo and the tests need

demo: setup  ## run a governed agent over a real mailbox, a ledger and a customer table
	@$(BIN)/guard demo

test: setup  ## lint, types, and all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

bench: $(VENV)/bench  ## measure, beside the peer
	$(BIN)/python -m bench

bench-short: $(VENV)/bench  ## see that the benchmarks run
	$(BIN)/python -m bench --short

$(VENV)/bench: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@

clean:  ## remove what the other targets made
	rm -rf $(VENV) .guard .mypy_cache .ruff_cache .hypothesis
