# make run               the study `quickstart`: minutes, offline, ends with results/quickstart/report.html
# make run STUDY=name    another study of config.yaml
# make reset STUDY=quickstart RUN=resnet/batch/seed0
#                        train a run again at the next call; RUN may be a pattern: 'resnet/*'
# make crate STUDY=name   a study as an RO-Crate, results/<study>/crate.zip (docs/provenance.md)
# make clean-store       free the disk space of states of finished runs, and of leftovers
# make test              the tests
# make lint              the style checks alone
# make lock              pin new versions (needs uv)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VALIDATORS := $(VENV)/validators
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --require-hashes
INSTALL := $(BIN)/python $(PIP_INSTALL)

.PHONY: run crate reset clean-store test test-quick lint lock

run: $(VENV)/run
	$(BIN)/snakemake --cores all $(if $(STUDY),--config 'study=$(STUDY)')

crate: $(VENV)/run
	$(BIN)/snakemake crate --cores all $(if $(STUDY),--config 'study=$(STUDY)')

reset: $(VENV)/run
	@$(if $(and $(STUDY),$(RUN)),,echo "error: say which: make reset STUDY=quickstart RUN=resnet/batch/seed0" >&2; exit 2)
	@$(BIN)/python workflow/scripts/reset_runs.py $(ARGS) -- '$(STUDY)' '$(RUN)'

# More options: make clean-store ARGS='--unused --dry-run'
clean-store: $(VENV)/run
	@$(BIN)/python workflow/scripts/clean_store.py $(ARGS)

test: $(VENV)/test $(VALIDATORS)/made lint
	$(BIN)/python -m pytest

test-quick: $(VENV)/test $(VALIDATORS)/made
	$(BIN)/python -m pytest -m "not slow"

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow/rules
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakemake --lint

# The environment, made once and again when its lock file changes.
$(VENV)/run: envs/requirements-build.txt envs/requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "error: Python 3.11 to 3.13 is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.11")'
	@echo "Making the environment in $(VENV) (once; on Linux about 3 GB to download, most of it PyTorch) ..."
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -r envs/requirements-build.txt
	$(INSTALL) --no-build-isolation -r envs/requirements.txt
	@touch $@

$(VENV)/test: $(VENV)/run envs/requirements-test.txt
	$(INSTALL) --no-build-isolation -r envs/requirements-test.txt
	@touch $@

# What validates crates and CITATION.cff: it asks for other versions than the pipeline has.
$(VALIDATORS)/made: $(VENV)/run envs/requirements-validators.txt
	$(BIN)/python -m venv $(VALIDATORS)
	$(VALIDATORS)/bin/python $(PIP_INSTALL) -r envs/requirements-validators.txt
	@touch $@

LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock:
	cd envs && $(LOCK) requirements.in -o requirements.txt
	cd envs && $(LOCK) -c requirements.txt requirements-build.in -o requirements-build.txt
	cd envs && $(LOCK) -c requirements.txt requirements-test.in -o requirements-test.txt
	cd envs && $(LOCK) requirements-validators.in -o requirements-validators.txt
