# Two commands need nothing done before: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test test-fast check format bench gpu clean help

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(VENV)/.base: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/.base  ## set up, then make a clip, embed it, name its motion, write a report
	$(BIN)/vjepa2 demo --out vjepa2-demo

# Test files are dealt out to processes; each computes on one thread, or they would get in each
# other's way. At most four, because each holds PyTorch in memory.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 --dist=loadfile

test: $(VENV)/.dev  ## set up if needed, then run all tests
	$(PYTEST) --jaxtyping-packages=vjepa2.nn,beartype.beartype -m "not compile"
	$(PYTEST) tests/compile

check: $(VENV)/.dev  ## format, lint, types, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/codespell src tests docs benchmarks examples README.md CHANGELOG.md CONTRIBUTING.md

format: $(VENV)/.dev  ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev  ## measure everything side by side with transformers; rewrites benchmarks/results
	$(BIN)/python -m benchmarks.run_all

gpu: $(VENV)/.dev  ## tests and benchmarks that need an accelerator
	$(BIN)/python -m pytest -m gpu
	$(BIN)/python -m benchmarks.encode --device cuda

clean:  ## remove what the commands made
	rm -rf $(VENV) vjepa2-demo dist build
