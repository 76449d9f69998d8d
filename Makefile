# One target per job; each does its own set-up in .venv. `make demo` and `make test` are all that a newcomer needs.
.PHONY: demo test check sim bench clean

PYTHON ?= python3
BIN := .venv/bin
SEEDS ?= 2000
READY := .venv/.ready

demo: $(READY)  ## a whole system on this machine, then proof that it survives a killed worker
	$(BIN)/cbw up --scale cli=2 --scale wor=4 --until-done
	$(BIN)/cbw verify

test: $(READY) tests/interop/node_modules/.package-lock.json  ## every test; those of deployments beside the others
	@beside=$$(mktemp); $(BIN)/python -m pytest -p no:cacheprovider tests/deploy >$$beside 2>&1 & deploy=$$!; \
	$(BIN)/python -m pytest --ignore=tests/deploy; here=$$?; \
	wait $$deploy; there=$$?; cat $$beside; rm -f $$beside; exit $$((here | there))

check: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

sim: $(READY)  ## the seeded simulation: make sim SEEDS=20000, or SEED=17 for one
	$(BIN)/python -m tests.sim $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

bench: $(READY)  ## the figures of the README
	$(BIN)/python -m benchmarks

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

tests/interop/node_modules/.package-lock.json: tests/interop/package.json
	@if command -v npm >/dev/null 2>&1; then npm --prefix tests/interop install --silent --no-audit --no-fund; \
	    touch $@ 2>/dev/null || true; \
	else echo "npm is not here: tests with Node programs will be skipped"; fi

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis tests/interop/node_modules
