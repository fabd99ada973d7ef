# One command each; the first one installs everything into .venv, later ones start at once.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=

# The stamp carries a checksum of what decides the installation, so that only a change of content
# (not of a date, as after a checkout) installs again.
INPUTS := pyproject.toml constraints.txt scripts/system_libs.sh
STAMP  := $(VENV)/.installed-$(shell cat $(INPUTS) | cksum | cut -d ' ' -f 1)

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' Makefile

demo: $(STAMP) ## the whole chain on the example recording, no hardware needed (ARGS=... goes to the command)
	@$(BIN)/rakelight demo $(ARGS)

test: $(STAMP) ## the tests but the slow ones (ARGS="-m slow" for those, ARGS="-m ''" for all)
	@QT_QPA_PLATFORM=offscreen $(BIN)/python -m pytest -m "not slow" $(ARGS)

lint: $(STAMP) ## style, format, types, who imports whom: all four, then the verdict
	@failed=0; \
	$(BIN)/ruff check --quiet . || failed=1; \
	$(BIN)/ruff format --quiet --check . || failed=1; \
	$(BIN)/mypy || failed=1; \
	$(BIN)/lint-imports --no-logo || failed=1; \
	exit $$failed

bench: $(STAMP) ## every measurement in benchmarks/, one JSON object each
	@failed=0; for file in benchmarks/[a-z]*.py; do \
		[ -e "$$file" ] || continue; echo "# $$file" >&2; $(BIN)/python "$$file" || failed=1; \
	done; exit $$failed

clean: ## remove .venv, builds and caches
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch first: only then is the build chosen by the constraint (and by PIP_FIND_LINKS, where somebody
# offers a CPU build) instead of by what open ranges pull in.
$(STAMP):
	@sh scripts/system_libs.sh $(PYTHON)
	@echo "installing into $(VENV) (some minutes the first time)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt torch
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@rm -f $(VENV)/.installed-*
	@touch $@
