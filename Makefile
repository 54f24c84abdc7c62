# One command each; `make help` lists them.  Works with what Debian 12 and 13 ship, as any user;
# as root it also installs the Debian packages that are missing (tools/debian-packages).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DONE := $(VENV)/.done
C_FILES := $(wildcard src/_native/*.[ch]) src/_native/build_native.py

# Headers hold tables laid out by hand.
C_FORMATTED := $(wildcard src/_native/*.c tests/native/*.c tests/faults/*.c tests/sanitized/*.c \
	tests/fuzz/*.c tests/fuzz/*/*.c tests/kernel/*.c tests/security/attacks/*.c)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help mutants sample-mutants quickstart dev test test-python test-kernel test-aarch64 test-cgroup2 test-rootless test-no-openat2 test-sanitized native lint fmt type bench wheel \
	clean bars fuzz sample-no-openat2 sample-rootless \
	sweep-crowd sweep-faults sweep-kills

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ---- environment: stamps make each step run once, and again only when what it reads changes

$(DONE)/packages-%: tools/debian-packages
	@tools/debian-packages --python $(PYTHON) $*
	@mkdir -p $(DONE) && touch $@

$(DONE)/venv: | $(DONE)/packages-quickstart
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "containerkit needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(DONE)/install: pyproject.toml setup.py $(DONE)/venv
	$(BIN)/pip install -qq --disable-pip-version-check 'setuptools>=77' --editable .
	@touch $@

$(DONE)/install-dev: pyproject.toml setup.py $(DONE)/venv
	$(BIN)/pip install -qq --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(DONE)/install

$(DONE)/native: $(C_FILES) setup.py | $(DONE)/install
	$(BIN)/python setup.py --quiet build_ext --inplace
	@touch $@

quickstart: $(DONE)/install $(DONE)/native ## first look: set up, then run examples/quickstart.py
	$(BIN)/python examples/quickstart.py

dev: $(DONE)/install-dev $(DONE)/native ## .venv with the library built in place and every tool

# ---- checks

test: lint type native test-python sample-mutants sample-no-openat2 sample-rootless test-cgroup2 ## everything that must hold before a change lands

test-python: dev $(DONE)/packages-test ## the Python tests alone; choose with T="tests/unit -k name"
	$(BIN)/pytest $(or $(T),--numprocesses 3 --dist loadfile tests)

native: $(DONE)/packages-test ## C tests, with address and undefined-behaviour sanitizers
	@$(MAKE) --no-print-directory -C tests/native check
	@$(MAKE) --no-print-directory -C tests/fuzz replay

test-sanitized: dev $(DONE)/packages-test ## the Python tests on a core built with these sanitizers; T= as above
	$(BIN)/python -m tests.sanitized $(T)

test-no-openat2: dev $(DONE)/packages-test ## the Python tests where openat2 answers ENOSYS, as before Linux 5.6; T= as above
	$(BIN)/python -m pytest -p tests.no_openat2.plugin $(or $(T),tests)

# Of what resolves paths of others, the quick ones.
SAMPLE := tests/unit/test_native_paths.py $(addprefix tests/security/test_,paths.py races.py)
sample-no-openat2:
	@$(MAKE) --no-print-directory test-no-openat2 T="-q $(SAMPLE)"

test-rootless: dev $(DONE)/packages-test ## tests of containers as an ordinary user, with one id and with more; T= as above
	$(BIN)/python -m tests.rootless $(if $(filter no,$(OPENAT2)),--no-openat2) $(T)

sample-rootless: dev $(DONE)/packages-test
	@$(BIN)/python -m tests.rootless --sample

test-kernel: dev $(DONE)/packages-kernel ## part of the tests on Linux 6.1, in user-mode-linux
	tests/kernel/run $(or $(T),)

# One boot of user-mode-linux; control groups of version 2 with controllers, handed down as systemd
# does.  A test that is skipped in there has failed.
test-cgroup2: export CONTAINERKIT_TEST_NO_SKIP = 1
test-cgroup2: dev $(DONE)/packages-kernel ## limits, exec and life with control groups of version 2
	tests/kernel/run --timeout 1800 -q -m 'cgroup2 and not slow' $(or $(T),tests/integration tests/security)

test-aarch64: dev $(DONE)/packages-aarch64 ## part of the tests in an emulated machine of that architecture; T= as above
	$(BIN)/python tests/aarch64/run $(T)

lint: dev $(DONE)/packages-test ## ruff, and the C code with every warning an error, in two compilers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/clang-format --dry-run -Werror $(C_FORMATTED)
	@$(MAKE) --no-print-directory -f tools/strict.mk

fmt: dev ## put Python and C into the one format
	$(BIN)/ruff format
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/clang-format -i $(C_FORMATTED)

type: dev ## mypy --strict on the library, its tests, examples and benchmarks
	$(BIN)/mypy --strict src tests benchmarks $(wildcard examples)

# ---- the same at size; `make test` runs a sample of each.  SEED= draws other points.

fuzz: dev $(DONE)/packages-fuzz ## hostile input for the C core, S=60 seconds a target; T="tar apply" for some
	$(BIN)/python -m tests.fuzz $(if $(S),--seconds $(S)) $(T)

mutants: dev $(DONE)/packages-test ## chosen lines broken in a copy: tests must notice each; T= for some of them
	$(BIN)/python -m tests.mutants $(if $(T),--only "$(T)")

# The same rows each time, of a Python file and one of C.  The first run compiles the C core for the copy in
# which lines are broken; later ones compile what has changed since.
sample-mutants: dev $(DONE)/packages-test
	@$(BIN)/python -m tests.mutants --only registry/auth.py --only "no capability is dropped"

sweep-faults: dev $(DONE)/packages-test ## every call that can fail, failing (hours); S=600 for so many seconds
	$(BIN)/python -m tests.faults.sweep_faults $(if $(S),--seconds $(S)) $(if $(SEED),--seed $(SEED)) $(if $(T),--only $(T))

sweep-crowd: dev $(DONE)/packages-test ## 16 processes x 200 operations on one root, some killed; P=, N=
	$(BIN)/python -m tests.faults.crowd $(or $(P),16) $(or $(N),200) $(or $(SEED),1)

sweep-kills: dev $(DONE)/packages-test ## the process killed at 540 points; N=… for so many
	$(BIN)/python -m tests.faults.sweep_kills $(if $(N),--points $(N)) $(if $(SEED),--seed $(SEED))

bars: dev $(DONE)/packages-test ## 1,000 runs, 100 OOM kills, bombs, floods, orphans, races: their figures; T="runs ooms"
	$(BIN)/python -m tests.faults.bars $(T)

# ---- the rest

bench: dev $(DONE)/packages-bench ## measure containerkit beside its peers; writes docs/benchmarks.md
	$(BIN)/python -m benchmarks

wheel: $(DONE)/install-dev ## abi3 wheels in dist/: manylinux for Python 3.11 and newer, musllinux for 3.13
	@$(BIN)/python tools/wheels.py

clean: ## remove what was built; .venv goes too
	rm -rf $(VENV) build dist .cache .hypothesis src/*.egg-info src/containerkit/*.so src/containerkit/ck-launcher
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
	@$(MAKE) --no-print-directory -C tests/native clean
