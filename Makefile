# Two commands do everything on a fresh machine:
#   make quickstart   install, then distil, export and validate the embedded model on the CPU
#   make test         install, then lint, type-check and test
# VENV=... puts the environment elsewhere; PIP_ARGS=... is handed to pip; RECIPE_ARGS=... to `star-edge distill`.

SHELL := /bin/bash
VENV ?= .venv
PIP_ARGS ?=
RECIPE_ARGS ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Without these flags llama.cpp builds for this very processor, and on virtual machines that report AMX it then dies.
export CMAKE_ARGS ?= -DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF

.PHONY: help install system quickstart test lint fast-test constraints clean

help:
	@sed -n 's/^#   //p' Makefile

system:
	@missing=""; command -v g++ >/dev/null || missing="build-essential"; \
	python3 -c 'import ensurepip' 2>/dev/null || missing="$$missing python3-venv"; \
	if [ -n "$$missing" ] && command -v apt-get >/dev/null; then \
	  sudo=$$([ $$(id -u) = 0 ] || echo sudo); \
	  echo "installing $$missing"; $$sudo apt-get update -q && $$sudo apt-get install -qy --no-install-recommends $$missing; \
	fi

$(STAMP): pyproject.toml constraints.txt
	@$(MAKE) --no-print-directory system
	@python=""; for name in python3.12 python3.11 python3.13 python3; do \
	  if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$name; break; fi; done; \
	if [ -z "$$python" ]; then echo "star-edge needs Python 3.11 or newer" >&2; exit 1; fi; \
	[ -x $(BIN)/python ] || $$python -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q $(PIP_ARGS) -c constraints.txt torch
	@echo "installing star-edge; building llama.cpp takes 4 to 8 minutes on two cores"
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install -q $(PIP_ARGS) -c constraints.txt -e '.[all]'
	@touch $(STAMP)

install: $(STAMP)

quickstart: install
	$(BIN)/star-edge distill recipes/quickstart/star.yaml $(RECIPE_ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Everything but what needs a GPU or a phone. `make fast-test` leaves out the slow ones.
test: lint
	$(BIN)/python -m pytest -m 'not gpu and not device'

fast-test: install
	$(BIN)/python -m pytest

constraints: install
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu//' > constraints.txt

clean:
	rm -rf $(VENV) build dist *.egg-info
