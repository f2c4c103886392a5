# Needs Python 3.11 or later with venv, and make; everything else is set up here, in .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SSLYZE := $(VENV)/sslyze
PLUGINS := $(VENV)/plugins
API := $(VENV)/schemathesis
BROWSER := $(VENV)/browser
DEPLOY := $(VENV)/deploy
DOCS := $(VENV)/docs
SITE := build/site
HOW    := (Debian: apt-get install python3 python3-venv), or name one: make PYTHON=python3.13

# What the tests start by the hundred should not be compiled each time; what is never imported, not at all (--no-compile).
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run test fresh ssl system stress container check docs bench install environments lock clean always

help: ## what there is
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

run: $(VENV)/installed ## make certificates if there are none, and serve config.toml
	$(BIN)/python -m suite --config config.toml

# The page is tested where Chromium is.
BROWSER_TOO := $(if $(shell command -v chromium),$(BROWSER)/installed)

# What the tests need.
TESTED := $(VENV)/collected $(SSLYZE)/installed $(PLUGINS)/installed $(API)/installed $(DEPLOY)/installed $(BROWSER_TOO)

test: $(TESTED) ## run all tests; COVERAGE=yes measures branch coverage, too
ifdef COVERAGE
	@rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest -n auto --dist worksteal
	@$(BIN)/coverage combine --quiet
	$(BIN)/coverage report
else
	$(BIN)/python -m pytest -n auto --dist worksteal
endif

fresh: ## the two commands above, on bare Debians (needs root and debootstrap)
	.ci/fresh

ssl: $(VENV)/ssl ## the tests that depend on Python's own OpenSSL
	$(BIN)/python -m pytest tests/endpoints/test_tls.py tests/endpoints/test_mutual_tls.py tests/testing/test_suite.py

system: $(VENV)/python ## the same, with the system's Python; its environment is in the other one
	$(MAKE) ssl PYTHON=/usr/bin/python3 VENV=.venv/system

stress: $(VENV)/developed ## the slow and heavy tests, in full size
	$(BIN)/python -m pytest -m stress

# CONTAINER_CACHE: where the base and the images are kept (default: ~/.cache/echo-suite/containers).
container: $(VENV)/developed $(DEPLOY)/installed ## build the images and run them, and the manifests (needs root and podman)
	$(BIN)/python -m pytest -m container --timeout 1200 tests/deploy

check: $(VENV)/developed ## lint, formatting, types, and the floors of the design
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(DOCS)/installed ## build the documentation site, in build/site, and check its links
	rm -rf $(SITE)
	$(DOCS)/bin/sphinx-build --quiet --fresh-env --fail-on-warning -c docs/site -d $(dir $(SITE))doctrees . $(SITE)
	$(DOCS)/bin/python docs/site/check.py $(SITE)

bench: $(VENV)/raced ## race it against Twisted, asyncio, uvloop, Go and C; BENCH=--quick takes a minute
	$(BIN)/python -m benchmarks.race $(BENCH)

install: $(VENV)/installed ## set up .venv

environments: $(TESTED) $(DOCS)/installed ## set up all that is set up here; -j2 takes half the time

# The environment, made anew when the Python that made it is not the one we have now, or when it has been moved: its
# scripts have its path. What is missing is said first.
$(VENV)/python: always
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing; install Python 3.11 or later $(HOW)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is $$($(PYTHON) --version 2>&1); install Python 3.11 or later $(HOW)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no venv or ensurepip; install them (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@made_by=$$($(PYTHON) -c 'import sys; print(sys.base_prefix, sys.version)'; pwd); \
	if [ "$$made_by" != "$$(cat $@ 2>/dev/null)" ]; then \
		if [ -e $(VENV) ] && ! [ -w $(VENV) ]; then \
			echo "$(VENV) cannot be written by $$(id -un); remove it, or name another: make VENV=.venv-$$(id -un)" >&2; exit 1; fi; \
		$(PYTHON) -m venv --clear $(VENV) && echo "$$made_by" > $@; fi

$(VENV)/installed: $(VENV)/python requirements/build.txt requirements/run.txt pyproject.toml suite/dropin.py
	@echo "setting up $(VENV), once"
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/build.txt -r requirements/run.txt
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/developed: $(VENV)/installed requirements/dev.txt
	@echo "setting up $(VENV) for the tests, once"
	@$(BIN)/python -m pip install --quiet --no-compile --require-hashes -r requirements/dev.txt
	@touch $@

# For the tests that another Python runs, too: a few of the same.
$(VENV)/ssl: $(VENV)/installed requirements/ssl.txt
	@echo "setting up $(VENV) for the tests of TLS, once"
	@$(BIN)/python -m pip install --quiet --no-compile --require-hashes -r requirements/ssl.txt
	@touch $@

# Once, or each of the processes that run the tests would compile all of them.
$(VENV)/collected: $(VENV)/developed
	@$(BIN)/python -m pytest --collect-only --quiet > $@ || { cat $@; rm $@; exit 1; }

$(VENV)/raced: $(VENV)/installed requirements/bench.txt
	@echo "setting up $(VENV) for the races, once"
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/bench.txt
	@touch $@

# Clients in the tests like openssl or ncat, that happen to be written in Python: what they need is their own affair.
# That of the site is another: it imports the suite, and has what that needs from its own list. Our pip serves all.
$(SSLYZE)/installed $(API)/installed $(BROWSER)/installed $(DEPLOY)/installed $(DOCS)/installed: $(VENV)/%/installed: $(VENV)/installed requirements/%.txt
	@echo "setting up $(VENV)/$*, once"
	@$(PYTHON) -m venv --clear --without-pip $(VENV)/$*
	@$(BIN)/python -m pip --python $(VENV)/$*/bin/python install --quiet --no-compile --require-hashes -r requirements/$*.txt
	@touch $@

# Plugins of pytest's that ours is tested beside; a directory that is on the path of those tests alone.
$(PLUGINS)/installed: $(VENV)/installed requirements/plugins.txt
	@echo "setting up $(PLUGINS), once"
	@$(BIN)/python -m pip install --quiet --no-compile --require-hashes --upgrade --target $(PLUGINS) -r requirements/plugins.txt
	@touch $@

lock: $(VENV)/installed ## choose the newest versions of everything anew (needs uv)
	uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 --upgrade \
		--group build -o requirements/build.txt
	uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 --upgrade \
		pyproject.toml -o requirements/run.txt
	uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 --upgrade \
		-c requirements/run.txt --group dev -o requirements/dev.txt
	uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 --upgrade \
		-c requirements/run.txt -c requirements/dev.txt --group bench -o requirements/bench.txt
	uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 --upgrade \
		-c requirements/run.txt -c requirements/dev.txt --group ssl -o requirements/ssl.txt
	uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 --upgrade \
		-c requirements/run.txt -c requirements/dev.txt --group plugins -o requirements/plugins.txt
	uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 --upgrade \
		-c requirements/run.txt -c requirements/dev.txt pyproject.toml --group docs -o requirements/docs.txt
	uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 --upgrade \
		-c requirements/run.txt -c requirements/dev.txt pyproject.toml --extra locust -o requirements/locust.txt
	for group in browser deploy sbom schemathesis sslyze; do \
		uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 --upgrade \
			--group $$group -o requirements/$$group.txt || exit; done

clean: ## remove everything that is made here, but for certificates
	rm -rf $(VENV) build benchmarks/build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
