# One environment, .venv, made once: `make demo` and `make test` need nothing else.
# Its stamp is renewed when pyproject.toml or constraints.txt change; a failed installation leaves none.

BIN := .venv/bin
STAMP := .venv/.installed
INSTALL := $(BIN)/python -m pip --disable-pip-version-check --no-input install --constraint constraints.txt --editable '.[dev]'
SCRIPTS := .ci/run $(wildcard mlflow/*.sh cluster/*.sh)
# Candidates are run, not only looked up: version managers leave launchers for versions that are not active.
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3.13 python3.12 python3.11 python3)
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))

export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1 # it would ask the network whether a newer pyright exists

.DEFAULT_GOAL := help
.PHONY: help env demo test lint bench ui clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1	\2/p' Makefile | while IFS='	' read -r target text; do \
		printf '  make %-6s %s\n' "$$target" "$$text"; done
	@echo '  PYTHON=/path/to/python3.12 chooses the interpreter for a new environment'

env: $(STAMP) ## make the environment .venv (the other targets do it by themselves)

demo: $(STAMP) ## run the whole pipeline on handwritten digits, results in runs/demo
	@$(BIN)/nullspace run demo

# One thread each: two files at a time keep two cores busy, and threads that wait for one another would only spin.
test: $(STAMP) ## run all tests, two files at a time
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder

lint: $(STAMP) ## style, format, types, the import rule, shell scripts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m pytest -q tests/package/test_imports.py -k one_way
	@for script in $(SCRIPTS); do bash -n $$script || exit 1; done
	@if command -v shellcheck >/dev/null; then echo shellcheck $(SCRIPTS); shellcheck $(SCRIPTS); \
	else echo 'shellcheck is not installed: shell scripts were only parsed'; fi

bench: $(STAMP) ## run the benchmarks
	@for file in benchmarks/bench_*.py; do \
		if [ -e "$$file" ]; then echo "== $$file"; $(BIN)/python "$$file" || exit 1; else echo 'no benchmarks yet'; fi; done

ui: $(STAMP) ## open MLflow on the results of the demo
	@$(BIN)/nullspace ui runs/demo

clean: ## remove build products and caches; .venv and runs/ stay
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -path ./runs -prune -o -name __pycache__ -type d -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@rm -f $@
	@if [ -e .venv ] && ! { $(BIN)/python -c '$(SUPPORTED)' && $(BIN)/python -m pip --version; } >/dev/null 2>&1; then \
		echo 'error: .venv has no working Python 3.11, 3.12 or 3.13 with pip; remove the folder .venv and run make again' >&2; exit 1; fi
	@if [ ! -e .venv ]; then \
		found=; for python in $(CANDIDATES); do \
			if "$$python" -c '$(SUPPORTED)' 2>/dev/null; then found=$$python; break; fi; done; \
		if [ -z "$$found" ]; then \
			echo 'error: Python 3.11, 3.12 or 3.13 is needed; tried:' >&2; \
			for python in $(CANDIDATES); do \
				version=$$("$$python" --version 2>/dev/null) || version='does not run'; echo "  $$python: $$version" >&2; done; \
			echo 'Install one of them, or name it: make PYTHON=/path/to/python3.12' >&2; exit 1; fi; \
		echo "Making .venv with $$("$$found" --version)"; \
		"$$found" -m venv .venv || { rm -rf .venv; \
			echo 'error: could not make .venv; on Debian and Ubuntu install the package python3-venv' >&2; exit 1; }; fi
	@echo 'Installing the packages into .venv: some minutes and about 7 GB, once'
	@if [ -t 1 ]; then { $(INSTALL) && touch $@; } | $(BIN)/python .ci/progress.py; else $(INSTALL) -qq && touch $@; fi; \
	if [ ! -e $@ ]; then \
		echo 'error: the installation failed (see above); run make again when the cause is gone' >&2; exit 1; fi
