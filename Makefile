# make demo [TRACE=file.csv]   set up, start everything on this machine, play a day of requests, watch it scale
# make up   [CONFIG=file.yaml] the same system, kept running until Ctrl-C; with TLS=1 (demo too) replicas serve TLS
# make down                    stop what `up` or `demo` started here
# make test [ARGS=…]           set up and run the tests; ARGS go to pytest
# make verify [ARGS=…]         all that takes long: overloads, kills, browsers, the demo itself
# make check                   lint, format, types
# make sim  [SEEDS=2000|SEED=n] whole days of the tick against a world of faults; SEED replays one
# make cover                   branch coverage of the pure core
# make mutate [MODULES="decide budget"]   faults planted in the pure core, one at a time: which does no test see?
# make clean                   end what runs, and remove what was generated, but for .venv
SHELL := /bin/sh
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup demo up down sim test verify cover mutate check clean
MAKEFLAGS += --no-print-directory

help:
	@sed -n 's/^# \(make.*\)/  \1/p' Makefile

setup:
	@test -n "$(PYTHON)" || { echo "set-up: no python3 found; install it: apt-get install python3 python3-venv" >&2; exit 2; }
	@"$(PYTHON)" infra/local/setup.py

demo: setup
	@exec $(VENV) -m infra.local demo $(if $(TRACE),--trace "$(TRACE)") $(if $(TLS),--tls)

up: setup
	@exec $(VENV) -m infra.local up $(if $(CONFIG),--config "$(CONFIG)") $(if $(TLS),--tls)

down:
	@exec $(VENV) -m infra.local down

sim: setup
	@exec $(VENV) -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),2000))

test: setup
	@exec $(VENV) -m pytest -q -n 2 --dist loadfile -m "not verify and not azcli" $(ARGS)

verify: setup
	@exec $(VENV) -m pytest -q -m "verify or azcli" -o timeout=900 $(ARGS)

cover: setup
	@$(VENV) -m tests.cover

mutate: setup
	@$(VENV) -m tests.mutate $(MODULES)

check: setup
	@$(VENV) -m ruff check .
	@$(VENV) -m ruff format --check --quiet --line-length 120 .
	@$(VENV) -m mypy

# .venv stays: it costs minutes to fill again.
clean:
	@test ! -x $(VENV) || test ! -d .local || $(VENV) -m infra.local down
	@rm -rf .local .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
