# One target per job; each does its own set-up in .venv. `make demo` and `make test` are all that a newcomer needs.
.PHONY: demo test test-fast seconds check sim mutants chaos attack bench peers lock audit sbom dist clean

PYTHON ?= python3
BIN := .venv/bin
SEEDS ?= 2000
N ?= 200
JUDGE ?= unit
SERVICE ?= pypi
READY := .venv/.ready
# Without bytecode each of the thousand processes of the tests compiles cbw and its tests again: some environments ask for that.
export PYTHONDONTWRITEBYTECODE :=

demo: $(READY)  ## a whole system on this machine, then proof that it survives a killed worker
	$(BIN)/cbw up --scale cli=2 --scale wor=4 --until-done
	$(BIN)/cbw verify

# The fast tests start neither containers nor processes that serve, so they take all processors. Those of tests/deploy mostly
# wait for containers: three at once, the longest first, beside the others. All the rest mostly waits for processes: six at
# once. Tests of one xdist_group share what they have started. Two pytests that end at once must not clean up one folder.
FAST := tests/unit tests/sim tests/fuzz tests/supply tests/mutants tests/test_layout.py tests/docs/test_reference.py tests/deploy/test_files.py \
        tests/deploy/test_mirror.py tests/deploy/test_chart.py
REST := $(FAST:%=--ignore=%)
PARALLEL := -n auto --maxprocesses 8 --dist worksteal
REPORT = --junit-xml build/test/$(1).xml

test: $(READY) tests/interop/node_modules/.package-lock.json tests/page/node_modules/.package-lock.json build/helm/helm  ## every test
	@beside=$$(mktemp); place=$$(mktemp -d /tmp/t.XXX); \
	PYTEST_DEBUG_TEMPROOT=$$place $(BIN)/python -m pytest -p no:cacheprovider -n 3 --dist loadgroup \
	    $(call REPORT,deploy) $(REST) tests/deploy >$$beside 2>&1 & deploy=$$!; \
	$(BIN)/python -m pytest $(PARALLEL) $(call REPORT,fast) $(FAST); fast=$$?; \
	$(BIN)/python -m pytest -n 6 --dist loadgroup $(call REPORT,live) $(REST) --ignore=tests/deploy; live=$$?; \
	wait $$deploy; there=$$?; cat $$beside; rm -rf $$beside $$place; exit $$((fast | live | there))

test-fast: $(READY)  ## the tests without Docker, without processes that serve, without the slow ones: in a minute
	$(BIN)/python -m pytest -q $(PARALLEL) -m "not slow" $(FAST)

seconds:  ## how long the tests of each kind took in the last `make test`
	$(BIN)/python -m tests.seconds build/test/*.xml

check: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

sim: $(READY)  ## the seeded simulation: make sim SEEDS=20000, or SEED=17 for one
	$(BIN)/python -m tests.sim $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

mutants: $(READY)  ## would a test notice a changed statement of a core? make mutants N=all; JUDGE=sim: the simulation alone
	$(BIN)/python -m tests.mutants --count $(N) --judge $(JUDGE)

chaos: MINUTES ?= 5
chaos: $(READY)  ## real processes at random harm: make chaos MINUTES=5
	$(BIN)/python -m tests.chaos --minutes $(MINUTES)

attack: MINUTES ?= 10
attack: $(READY)  ## strangers who say anything to all ports, beside a live system: make attack MINUTES=10
	$(BIN)/python -m tests.attack --minutes $(MINUTES)

bench: $(READY)  ## the figures of the README
	$(BIN)/python -m benchmarks

peers: $(READY) build/peers/.ready  ## cbw and five other systems under the same faults: the table of docs/explanation/peers.md
	$(BIN)/python -m benchmarks.faults

build/peers/.ready: benchmarks/faults/requirements.txt
	$(PYTHON) -m venv build/peers
	build/peers/bin/python -m pip install -q -r $<
	@touch $@

IMAGE := deploy/image
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --upgrade \
        --custom-compile-command "make lock"

PLATFORMS := x86_64-manylinux_2_28 aarch64-manylinux_2_28 x86_64-unknown-linux-musl aarch64-unknown-linux-musl

lock: $(READY)  ## renew what is in the image and what builds the wheel, to the newest versions within the ranges
	$(LOCK) --extra nats -o $(IMAGE)/requirements.txt pyproject.toml
	$(LOCK) -o $(IMAGE)/build-requirements.txt $(IMAGE)/build-requirements.in
	@for python in 3.11 3.12 3.13 3.14; do for platform in $(PLATFORMS); do \
	    $(BIN)/uv pip install --quiet --dry-run --no-deps --require-hashes --only-binary :all: --target build/none \
	        --python-version $$python --python-platform $$platform -r $(IMAGE)/requirements.txt || \
	        { echo "no wheel of something for Python $$python on $$platform"; exit 1; }; \
	done; done

audit: $(READY)  ## does a locked dependency have a known vulnerability? Needs PyPI's database; SERVICE=osv: that of osv.dev
	$(BIN)/python -m supply.audit --service $(SERVICE)

sbom: $(READY) build/locked/.ready  ## build/cbw.cdx.json: a bill of materials of what is in the image, in CycloneDX's format
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
	    --of JSON --output-file build/cbw.cdx.json build/locked/bin/python

dist: $(READY)  ## the wheel and the source archive of the last commit: built twice, compared, installed and tried
	$(BIN)/python -m supply.dist

build/locked/.ready: $(IMAGE)/requirements.txt pyproject.toml
	rm -rf build/locked
	$(BIN)/python -m venv --without-pip build/locked
	$(BIN)/python -m pip --python build/locked/bin/python install -q --require-hashes --only-binary :all: -r $<
	$(BIN)/python -m pip --python build/locked/bin/python install -q --no-deps .
	@touch $@

$(READY): pyproject.toml
	@if command -v uv >/dev/null 2>&1; then \
	    uv venv -q --allow-existing --seed --python $(PYTHON) .venv; \
	    uv pip install -q --python $(BIN)/python -e . --group dev --group bench; \
	else \
	    $(PYTHON) -m venv .venv; \
	    $(BIN)/python -m pip install -q --upgrade 'pip>=25.1'; \
	    $(BIN)/python -m pip install -q -e . --group dev --group bench; \
	fi
	@touch $@

tests/%/node_modules/.package-lock.json: tests/%/package.json
	@if command -v npm >/dev/null 2>&1; then npm --prefix tests/$* install --silent --no-audit --no-fund; \
	    touch $@ 2>/dev/null || true; \
	else echo "npm is not here: tests that need it will be skipped"; fi

build/helm/helm: .ci/helm
	@$(BIN)/python .ci/helm build/helm || echo "helm is not here: tests of the chart will be skipped"

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis tests/interop/node_modules tests/page/node_modules
