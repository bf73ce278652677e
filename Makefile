# `make` lists what there is. Every target does the set-up it needs; what is done already is not done again.

PREFIX ?= /usr/local
ARGS   ?=
PYTHON  = .venv/bin/python
# the hash seed decides an order inside bytecode: fixed, the same sources give the same bytes
BUILD   = PYTHONPATH=. PYTHONHASHSEED=0 $(PYTHON)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup ext images demo test test-unit test-v2 bench bench-v2 conformance lint peers install uninstall clean

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r target text; do \
		printf '  make %-11s %s\n' "$$target" "$$text"; done

setup: ## Debian packages that are missing, and a venv in .venv with the Python packages
	@tools/setup.sh

ext: setup ## compile the C parts in place; minicontainer can then be run as .venv/bin/minicontainer
	@tools/ext.sh

images: setup images/busybox.tar images/example-service.tar ## the rootfs tarballs images/busybox.tar and images/example-service.tar

demo: ext images ## run the example service under limits, load it, and read its figures in Prometheus
	@examples/demo/demo.sh

test: ext images ## all tests, real containers included (as root); ARGS="-k name" chooses
	$(PYTHON) -m pytest $(ARGS)

test-unit: ext ## the tests that need no root
	$(PYTHON) -m pytest tests/unit tests/repo $(ARGS)

test-v2: ext images ## the integration tests in a QEMU guest with pure cgroup v2
	@tools/packages.sh vm
	tests/vm/test-v2 $(ARGS)

bench: ext images peers ## start-up times beside runc, crun and docker
	@tools/install.sh "$(CURDIR)/build/bench"
	$(PYTHON) tests/bench/run.py $(ARGS)

bench-v2: ext images peers ## the OCI rows of the benchmark in the guest with pure cgroup v2, with few runs
	@tools/packages.sh vm
	@tools/install.sh "$(CURDIR)/build/bench"
	tests/vm/run --timeout 3600 -- $(PYTHON) tests/bench/run.py --only oci --runs 5 $(ARGS)

conformance: ext peers ## public suites of OCI runtimes, from the folder SUITES=DIR: see tests/conformance/README.md
	@test -n "$(SUITES)" || { echo "make conformance SUITES=DIR: the folder with the suites, see tests/conformance/README.md" >&2; exit 2; }
	$(PYTHON) tests/conformance/run.py "$(SUITES)" $(ARGS)

lint: setup ## ruff, mypy, import-linter and shellcheck
	$(PYTHON) -m pytest -q tests/repo/test_lint.py

peers: setup ## docker, podman, runc and others, for the client tests and the benchmark
	@tools/packages.sh peers

install: setup ## minicontainer and minicontainer-oci into $(PREFIX)/bin
	@tools/install.sh $(PREFIX)

uninstall: ## take them away again
	@tools/uninstall.sh $(PREFIX)

clean: ## remove everything that was made here: build/, images/*.tar, .venv/, compiled parts
	rm -rf build dist minicontainer.egg-info .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	rm -f images/*.tar minicontainer/stub/stub minicontainer/stub/monitor minicontainer/kernel/_kernel.*
	find minicontainer tests tools images examples -name __pycache__ -type d -exec rm -rf {} +

images/busybox.tar: images/busybox/build.py images/rootfs_tar.py
	@$(BUILD) images/busybox/build.py $@

images/python.tar: images/python/build.py images/rootfs_tar.py
	@$(BUILD) images/python/build.py $@

images/example-service.tar: images/python.tar images/example-service/build.py images/rootfs_tar.py examples/service/service.py
	@$(BUILD) images/example-service/build.py images/python.tar $@
