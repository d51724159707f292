# One command sets up and shows the parity report, one sets up and runs everything that must pass.
# Needs Python 3.11 or newer and nothing else; everything it installs goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
OLDEST := .venv-oldest

.DEFAULT_GOAL := help
.PHONY: help parity gate generate test test-oldest pages bench wheel clean

help: ## say what the targets do
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 13

parity: $(INSTALLED) ## set up, then judge drifting_torch against the paper, every clause shown
	$(BIN)/drifting-parity report -v

gate: $(INSTALLED) ## set up, then hold drifting_torch to what is declared of it
	$(BIN)/drifting-parity gate --expectations parity/expectations.toml

test: $(INSTALLED) ## set up, then run the linters, the project's tests and the parity suite
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/pytest -n auto tests/
	$(BIN)/pytest -n auto parity/

# PyTorch 2.4 on Linux brings gigabytes of CUDA, unless pip is told of an index with CPU builds.
# Its Triton is older than our kernels take: they are skipped, as without a GPU.
test-oldest: ## set up the oldest versions that are declared in a folder of their own, and run the tests
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet -c constraints-oldest.txt -e ".[pages,test]" hatchling html5lib import-linter jsonschema mpmath
	$(OLDEST)/bin/python -m pytest -n auto tests/
	$(OLDEST)/bin/drifting-parity report --quick

pages: $(INSTALLED) ## set up, then write the annotated paper as HTML pages, into spec/pages
	$(BIN)/drifting-parity pages spec/pages

generate: $(INSTALLED) ## write anew all that is generated: indices, numbers, documents, transcripts, the bundle
	$(BIN)/python -m drifting_parity.catalogue.check_index
	$(BIN)/python -m drifting_parity.catalogue.effects
	$(BIN)/python -m drifting_parity.catalogue.curves
	$(BIN)/python -m drifting_parity.catalogue.documents
	$(BIN)/python -m drifting_parity.suspects.table > .selftest.json
	mv .selftest.json tests/selftest.json
	$(BIN)/python -m drifting_parity.forms.bundle
	$(BIN)/python tests/readme_transcript.py

bench: $(INSTALLED) ## set up, then time the loss against the textbook form and check it against float64
	PYTHONPATH=impl $(BIN)/python -m benchmarks.run

wheel: $(INSTALLED) ## set up, then build the wheel that pip installs anywhere, into dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist

clean: ## remove what the other targets made
	rm -rf $(VENV) $(OLDEST) build dist spec/pages .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last, so that an installation cut short starts again.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: $(PYTHON) is Python %d.%d, expected 3.11 or newer: make PYTHON=python3.11 ..." % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[train,pages,test,dev]"
	@touch $@
