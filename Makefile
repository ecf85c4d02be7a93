# Everything is installed into .venv; the files *.stamp there say what is done, so that a second run is quick.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PINNED := $(PIP) --constraint constraints.txt --build-constraint constraints.txt

# Processes that tests run in. Coverage is measured in whole runs only, for its floors are for those.
WORKERS ?= auto
QUICK_TESTS := tests/unit tests/properties tests/simulation/test_histories.py
COVERAGE := -p tests.coverage_floor --cov --cov-report=

.DEFAULT_GOAL := help
.PHONY: help demo test quick sdist servers lint format bench profile lock pre-commit clean

help:
	@echo 'make demo    a year of flights: imported, queried, replayed (under a minute)'
	@echo 'make quick   run the tests that need no server and are not slow (about a minute)'
	@echo 'make test    run all tests, on real servers too'
	@echo 'make sdist   build the source distribution and run its unit tests in a fresh environment'
	@echo 'make servers build or install the servers that the tests run on: MinIO, Ceph RGW, moto'
	@echo 'make lint    ruff, codespell, mypy and pyright'
	@echo 'make format  reformat the code'
	@echo 'make bench   our figures beside those of others; with QUICK=1 in two minutes'
	@echo 'make profile where the time goes, and what the machine allows'
	@echo 'make lock    renew the versions in constraints.txt'
	@echo 'make pre-commit  check each commit before it is made'
	@echo 'make clean   remove all that was made here, .venv too'

demo: $(VENV)/demo.stamp
	$(BIN)/python examples/flights/demo.py

test: servers
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(if $(ARGS),$(ARGS),$(COVERAGE))

quick: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'not slow and not servers and not disk' $(or $(ARGS),$(QUICK_TESTS))

# With nothing but the extra `testing`: what else a test needs, it must ask for, and what it reads must be in there.
sdist: export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
sdist: export PIP_BUILD_CONSTRAINT := $(CURDIR)/constraints.txt
sdist:
	rm -rf build/sdist
	$(PYTHON) -m venv build/sdist/venv
	build/sdist/venv/bin/python -m pip install --quiet --disable-pip-version-check build
	build/sdist/venv/bin/python -m build --sdist --outdir build/sdist
	mkdir build/sdist/source
	tar -xzf build/sdist/bucketlog-*.tar.gz -C build/sdist/source --strip-components=1
	cd build/sdist/source && ../venv/bin/python -m pip install --quiet --disable-pip-version-check '.[testing]'
	cd build/sdist/source && ../venv/bin/python -m pytest tests --collect-only --quiet --quiet --no-summary
	cd build/sdist/source && ../venv/bin/python -m pytest tests/unit -m 'not slow and not servers'

servers: $(VENV)/dev.stamp
	$(BIN)/python -m tests.servers prepare

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/mypy tests/typing
	$(BIN)/pyright

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/bench.stamp
	@$(BIN)/python -m tests.servers prepare minio
	$(BIN)/python -m benchmarks.run $(if $(QUICK),--size quick) $(ARGS)

profile: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks.profile $(ARGS)

# Only where it succeeds is the file replaced.
lock: $(VENV)/pip.stamp
	$(BIN)/python .ci/lock.py $(ARGS) > $(VENV)/constraints.txt
	cp $(VENV)/constraints.txt constraints.txt

pre-commit: $(VENV)/dev.stamp
	$(BIN)/pre-commit install

clean:
	rm -rf $(VENV) build dist demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage

$(VENV)/pip.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'bucketlog needs Python 3.11 or newer; name one: make PYTHON=python3.12 …' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	@touch $@

$(VENV)/demo.stamp: $(VENV)/pip.stamp pyproject.toml constraints.txt
	$(PINNED) --editable '.[cli]' --group demo
	@touch $@

# In one step, so that the group's own `bucketlog[all]` is this one.
$(VENV)/dev.stamp: $(VENV)/pip.stamp pyproject.toml constraints.txt
	$(PINNED) --editable '.[all]' --group dev
	@touch $@

# A peer that has no wheel for this machine is not worth a compiler: the table says what is missing.
$(VENV)/bench.stamp: $(VENV)/dev.stamp
	$(PINNED) --only-binary=deltalake,pyarrow,umadb --group bench \
		|| echo 'not all peers can be installed here; the table says which are missing' >&2
	@touch $@
