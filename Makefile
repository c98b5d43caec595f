# Everything runs in .venv, set up by the first target that needs it.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
USERS := $(VENV)/.users
PYTEST := OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help install test slow lint format page docs demo measure benchmark clean

help:  ## Show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(READY)  ## Make .venv with everything

# uv installs the rest in a fraction of pip's time; where it does not reach the index that pip is told of, pip does.
# Modules are compiled when they are first imported: most of the 25,000 files of the packages never are.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
define install_extra
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0 uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[$(1)]' || $(PIP) -e '.[$(1)]'
endef
$(READY): pyproject.toml constraints.txt
	$(call install_extra,dev)
	touch $@ $(USERS)
$(USERS): pyproject.toml constraints.txt  # what a user installs; half of the disk
	$(call install_extra,explorer)
	touch $@

test: install  ## Run the tests (not the slow and benchmark ones)
	$(PYTEST)

slow: install  ## Run the slow tests
	$(PYTEST) -m slow

lint: install  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

page: install  ## Check and build the explorer's page; needs Node
	$(BIN)/python frontend/openapi.py
	cd frontend && { test node_modules/.package-lock.json -nt package-lock.json || npm ci; } && npm run page

docs: install  ## Build the site in build/site and run the tutorials; RUN_TUTORIALS=false leaves them out
	$(BIN)/python -m mkdocs build --strict

demo: $(USERS)  ## A study of generated pictures, from images to the report, in demo-study/
	$(BIN)/python -m demo

measure: install  ## What the demo recovers of what was planted; PATIENTS=200 TRAININGS=3: a large drawn cohort
	$(if $(PATIENTS),$(BIN)/python -m benchmarks.power -o demo-study/drawn-$(PATIENTS) --patients $(PATIENTS) \
	--trainings $(or $(TRAININGS),3),$(BIN)/python -m demo.measure)

benchmark: install  ## Measure; writes benchmarks/results.json
	$(BIN)/python -m benchmarks

clean:  ## Remove what the targets made
	rm -rf $(VENV) demo-study build dist .pytest_cache .mypy_cache .ruff_cache
