# Needs Python 3.11 or later and make; everything else goes into .venv.
PYTHON  ?= python3
PROFILE ?= quick
CORES   ?= all
BENCH   ?=

VENV := .venv
RUN  := $(VENV)/bin/python
PIP  := $(RUN) -m pip --disable-pip-version-check install -qq
BOOK := _build/html/index.html
PIPELINE := $(RUN) -m reproduction.publish pipeline --cores $(CORES)

.DEFAULT_GOAL := help
.PHONY: help book test test-all study paper bench clean
.DELETE_ON_ERROR:

help: ## print this list
	@sed -n 's/^\([a-z-]*\): .*## \(.*\)/  make \1 | \2/p' $(MAKEFILE_LIST) \
	| while IFS='|' read -r target text; do printf '%-16s %s\n' "$$target" "$$text"; done
	@echo "Variables: PYTHON=$(PYTHON)  PROFILE=$(PROFILE) (quick, study, paper)  CORES=$(CORES)" \
	  " BENCH=$(BENCH) (--quick: a minute)"

book: $(VENV)/.installed ## train, execute the notebooks, build the book
	@$(PIPELINE) --config profile=$(PROFILE) \
	|| { echo "make book: a step failed, see above; logs are in _build/logs/" >&2; exit 1; }
	@echo "The book: $(BOOK)"

test: TESTS := -m "not slow"
test-all: TESTS :=
test test-all: $(VENV)/.installed-dev
	@$(RUN) -m ruff check . || { echo "make $@: ruff check failed" >&2; exit 1; }
	@$(RUN) -m ruff format --check . || { echo "make $@: ruff format failed" >&2; exit 1; }
	@$(RUN) -m mypy || { echo "make $@: mypy failed" >&2; exit 1; }
	@$(VENV)/bin/lint-imports --no-cache >/dev/null 2>&1 || $(VENV)/bin/lint-imports --no-cache \
	|| { echo "make $@: a room imports what it must not" >&2; exit 1; }
	@$(RUN) -m pytest -n 2 $(TESTS) || { echo "make $@: pytest failed" >&2; exit 1; }

test: ## check style and types, run the tests but the slow ones
test-all: ## the same with the slow ones: every notebook, the largest data set, whole runs

study: $(VENV)/.installed ## train what is missing of the study on real data (hours)
	@$(PIPELINE) records --config profile=search && $(PIPELINE) records --config profile=study \
	|| { echo "make study: a run failed, see above; logs are in _build/logs/" >&2; exit 1; }
	@echo "The records: results/study/ ('make book' shows them)"

paper: $(VENV)/.installed ## train with the paper's settings (a GPU, days)
	@$(PIPELINE) records --cores 1 --config profile=paper \
	|| { echo "make paper: a run failed, see above; logs are in _build/logs/" >&2; exit 1; }
	@echo "The paper's settings are trained ('make book PROFILE=paper' shows them)"

bench: $(VENV)/.installed-bench ## measure speed and memory beside other libraries (20 minutes)
	@$(RUN) -m reproduction.bench $(BENCH) || { echo "make bench: failed, see above" >&2; exit 1; }

clean: ## remove the book, quick records and logs; keep .venv and all other records
	rm -rf _build .snakemake results/quick results/smoke

# A stamp holds the folder it was made in: a checkout that was moved or copied is installed anew.
# Only the shell sees that path, for it may hold anything.
ifneq ($(shell [ "$$(cat $(VENV)/.installed 2>/dev/null)" = "$$(pwd -P)" ] || echo elsewhere),)
.PHONY: $(VENV)/.installed
endif

$(VENV)/.installed: requirements.txt pyproject.toml
	@command -v "$(PYTHON)" >/dev/null \
	|| { echo "no $(PYTHON) here; say which Python to use: make PYTHON=python3.12 ..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	|| { echo "Python 3.11 or later is needed, $(PYTHON) is $$("$(PYTHON)" -V 2>&1);" \
	  "say which to use: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(RUN) -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV) \
	|| { echo "no virtual environment could be made (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "Installing requirements.txt into $(VENV) (some minutes the first time)"
	@$(PIP) -r requirements.txt \
	|| { echo "the installation of requirements.txt failed, see above" >&2; exit 1; }
	@pwd -P > $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	@$(PIP) -r requirements-dev.txt \
	|| { echo "the installation of requirements-dev.txt failed, see above" >&2; exit 1; }
	@touch $@

# One by one: a peer that cannot be installed is reported as such and does not stop the others.
$(VENV)/.installed-bench: $(VENV)/.installed requirements-bench.txt
	@sed 's/#.*//; /^ *$$/d' requirements-bench.txt | while read -r peer; do \
	  $(PIP) "$$peer" || echo "make bench: $$peer could not be installed; going on without" >&2; \
	done
	@touch $@
