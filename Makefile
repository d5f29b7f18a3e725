# The only tool needed is Python 3.11 or newer; everything else goes into .venv. Another interpreter: make PYTHON=python3.12 test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed-dev
# Present while .venv is being made. Left over, it says that an interrupted run made half of it.
UNFINISHED := $(VENV)/.unfinished

export TF_CPP_MIN_LOG_LEVEL ?= 3

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint benchmarks peers clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## train, export and serve a model on the data that comes with the package
	@$(BIN)/python examples/demo.py

test: lint ## all checks and the fast tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: lint ## all checks and all tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m ""

lint: $(INSTALLED) ## style, formatting, types and who imports whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

benchmarks: $(INSTALLED) ## print the tables of the README
	@for script in $(basename $(notdir $(wildcard benchmarks/*.py))); do $(BIN)/python -m "benchmarks.$$script" || exit 1; done

peers: .venv-peers/.installed .venv-peers/.installed-matgl .venv-megnet/.installed .venv-alignn/.installed ## install what the speed benchmarks compare with (crabnet, matgl, megnet, alignn)

.venv-peers/.installed:
	@"$(PYTHON)" -m venv --clear .venv-peers
	@.venv-peers/bin/python -m pip install -qq --disable-pip-version-check "torch>=2.4" numpy pandas
	@.venv-peers/bin/python -m pip install -qq --disable-pip-version-check --no-deps crabnet==1.0.1
	@touch $@

.venv-peers/.installed-matgl: .venv-peers/.installed
	@.venv-peers/bin/python -m pip install -qq --disable-pip-version-check matgl==4.1.2
	@touch $@

# This version of alignn runs on PyTorch alone, without DGL. pymatgen reads the crystals.
.venv-alignn/.installed:
	@"$(PYTHON)" -m venv --clear .venv-alignn
	@.venv-alignn/bin/python -m pip install -qq --disable-pip-version-check "torch>=2.4" alignn==2026.8.11 jarvis-tools==2026.6.12 pymatgen
	@touch $@

# megnet needs Keras 2. Its published weights are in the source package only.
.venv-megnet/.installed:
	@"$(PYTHON)" -m venv --clear .venv-megnet
	@.venv-megnet/bin/python -m pip install -qq --disable-pip-version-check "tensorflow==2.21.*" "tf-keras==2.21.*" pymatgen==2025.10.7 setuptools wheel
	@.venv-megnet/bin/python -m pip install -qq --disable-pip-version-check --no-deps megnet==1.3.2
	@.venv-megnet/bin/python -m pip download -qq --disable-pip-version-check --no-deps --no-binary megnet --no-build-isolation -d .venv-megnet megnet==1.3.2
	@tar -xzf .venv-megnet/megnet-1.3.2.tar.gz -C .venv-megnet --strip-components=1 megnet-1.3.2/mvl_models/mp-2018.6.1
	@rm .venv-megnet/megnet-1.3.2.tar.gz
	@touch $@

clean: ## remove .venv, builds and caches; trained models (runs/) and exports (serving/) stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage htmlcov
	find $(wildcard tfmat zoo tuning export tests benchmarks examples) -name __pycache__ -prune -exec rm -rf {} +

$(INSTALLED): setup.py pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { echo 'tfmat needs Python 3.11 or newer, and "$(PYTHON)" is not there. Name another: make PYTHON=/path/to/python' >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "tfmat needs Python 3.11 or newer, and $(PYTHON) is %d.%d. Name another: make PYTHON=python3.11" % sys.version_info[:2])'
	@echo "Installing tfmat and what it needs into $(VENV). TensorFlow alone is a download of 570 MB (3 GB on disk in all), so this takes a minute or two." >&2
	@test ! -e $(UNFINISHED) && $(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
	@touch $(UNFINISHED)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[dev]'
	@rm $(UNFINISHED)
	@touch $(INSTALLED)
