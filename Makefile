# relayd, from a clone to a running relay. `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help setup run test test-unit fuzz torture sanitize lint format bench clean package packages apt-repository package-test pin log-page clients-table screenshots \
	test-tools fuzz-tools bench-tools package-tools apt-repository-tools package-test-tools FORCE

PYTHON ?= python3
# How many tests run at a time: one more than there are cores, since most of a test is waiting. Each
# starts servers of its own; more than 4 were not tried.
JOBS ?= $(shell n=$$(nproc); echo $$((n < 3 ? n + 1 : 4)))
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --no-input

# The environment is made again when it is not there, was made in another folder (its scripts hold
# the path), or lost its Python to an upgrade of the system.
ifneq ($(shell cat $(VENV)/.made 2>/dev/null && $(VENV)/bin/python -c '' 2>/dev/null && echo yes),$(CURDIR) yes)
$(VENV)/.made: FORCE
endif

# install PACKAGE...: with apt-get when we are root or sudo asks for no password; else the exact
# command is named and make fails. Nothing that is installed here is started: systemctl does nothing
# under SYSTEMD_OFFLINE, and init scripts are not run in runlevel 1.
define install
install() {
	local sudo=()
	if [ "$$(id -u)" != 0 ]; then sudo=(sudo); fi
	if ! command -v apt-get >/dev/null; then
		echo "make: missing: $$* (Debian's names; there is no apt-get here). Install them, then run make again." >&2
		exit 1
	fi
	if [ "$$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
		echo "make: missing: $$*. Install with" >&2
		echo "    sudo apt-get install $$*" >&2
		echo "then run make again." >&2
		exit 1
	fi
	echo "system: installing $$*"
	local log
	log=$$(mktemp)
	local apt=("$${sudo[@]}" env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
		SYSTEMD_OFFLINE=1 RUNLEVEL=1 PREVLEVEL=N apt-get -o DPkg::Lock::Timeout=300)
	"$${apt[@]}" update >"$$log" 2>&1 || true
	if ! "$${apt[@]}" install --yes --no-install-recommends "$$@" >>"$$log" 2>&1 </dev/null; then
		tail -n 20 "$$log" >&2
		echo "make: apt-get could not install $$*; the whole output is in $$log" >&2
		exit 1
	fi
	rm -f "$$log"
}
endef

comma := ,

# compile FOLDER COMPILER FLAGS: relayd as it is installed, in build/FOLDER/lib
define compile
mkdir -p build/$(1)
echo "$(1): compiling relayd into build/$(1)"
if ! CC=$(2) CFLAGS="-O1 -g -fno-omit-frame-pointer $(3)" $(VENV)/bin/python setup.py build --force \
	--build-base build/$(1) --build-lib build/$(1)/lib >build/$(1)/build.log 2>&1; then
	tail -n 20 build/$(1)/build.log >&2
	exit 1
fi
endef

# sanitized FOLDER LIBRARIES: before a command that imports what was compiled
define sanitized
env LD_PRELOAD="$(2)" ASAN_OPTIONS=detect_leaks=0:quarantine_size_mb=64:malloc_context_size=3 PYTHONMALLOC=malloc \
	PYTHONSAFEPATH=1 PYTHONPATH="build/$(1)/lib:."
endef

help:
	@cat <<-'EOF'
	make setup    .venv with relayd in it, editable, and what relayctl bench needs
	make run      set up, then serve on 127.0.0.1:8080; ARGS="--help" and so on go to relayd
	make test     install what the tests need, run them; PYTEST_ARGS="-k chat" goes to pytest
	make test-unit  the tests that need no server and no daemon, in about 45 s on two cores
	make fuzz     FUZZ_MINUTES=30 of coverage-guided fuzzing; ARGS="frames" for one target
	make torture  SECONDS=900 of clients that write while the servers fail, and a check of all that they saw; SEED=1
	make sanitize the tests of the compiled modules, under the sanitizers for addresses and undefined behaviour
	make lint     ruff and mypy
	make format   let ruff put the code in order
	make bench    relayd beside its peers, about 25 minutes; ARGS="--quick" for a first look
	make package  the Debian package, in ./dist; SUITE=trixie for another Debian, in ./dist/trixie
	make packages  for Debian 12 and 13, whichever of them this machine is; needs root
	make apt-repository  put the packages of ./dist into a signed APT repository: REPOSITORY=/srv/apt URL=https://… KEY=…
	make package-test  install each in a Debian that boots in a container, and try everything; needs root
	make pin      choose anew which versions of the libraries the package carries
	make log-page write docs/log.md anew, from the lists in the code
	make clients-table  run every client kit, and fill the table in docs/clients/README.md
	make screenshots  take the pictures in docs/images of every page; ARGS="room" for one page
	make clean    remove what make made; ./var, the embedded database, stays
	JOBS=1 lets make test run one test at a time, not $(JOBS); JOBS=0 in one process, for a debugger.
	PYTHON=python3.13 chooses the Python (3.11 or newer) that .venv is made with.
	EOF

setup: $(VENV)/.relayd

# on one's own machine the names of rooms are no secret
run: setup
	@RELAYD_CHAT_LIST_ROOMS=$${RELAYD_CHAT_LIST_ROOMS-open} exec $(VENV)/bin/twistd --nodaemon --pidfile= relayd $(ARGS)

test: test-tools $(VENV)/.test
	@echo "test: pytest -n $(JOBS) --dist loadfile $(PYTEST_ARGS)"
	$(VENV)/bin/python -m pytest -n $(JOBS) --dist loadfile $(PYTEST_ARGS)

# One worker a core: these tests compute and do not wait.
test-unit: $(VENV)/.test
	@jobs=$(if $(filter command line environment,$(origin JOBS)),$(JOBS),$$(nproc))
	echo "test-unit: pytest tests/unit -n $$jobs --dist loadfile $(PYTEST_ARGS)"
	$(VENV)/bin/python -m pytest tests/unit -n $$jobs --dist loadfile $(PYTEST_ARGS)

# The compiled modules once more, in a folder of their own, with clang: their coverage guides the
# fuzzer, and the address sanitizer watches them. Python frees little at its end: no leaks are looked for.
FUZZ_MINUTES ?= 30
fuzz: fuzz-tools $(VENV)/.test
	@$(call compile,fuzz,clang,-fsanitize=address$(comma)fuzzer-no-link)
	$(call sanitized,fuzz,$$($(VENV)/bin/python -c 'import atheris; print(atheris.path())')/asan_with_fuzzer.so) \
		nice $(VENV)/bin/python -m tests.fuzz.run --minutes $(FUZZ_MINUTES) $(ARGS)

# The same with gcc, and the sanitizer for undefined behaviour besides.
SANITIZED_TESTS := $(addprefix tests/unit/test_,framing.py receive_paths.py receive_paths_drawn.py \
	hub.py batching.py outbox.py websocket.py opening.py deflate.py) $(addprefix tests/integration/test_,inlet.py calls.py \
	strangers_floods.py)
sanitize: test-tools $(VENV)/.test
	@$(call compile,sanitize,gcc,-fsanitize=address$(comma)undefined -fno-sanitize-recover=undefined)
	echo "sanitize: pytest $(SANITIZED_TESTS) $(PYTEST_ARGS)"
	$(call sanitized,sanitize,$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)) \
		$(VENV)/bin/python -m pytest -n $(JOBS) --dist loadfile -o pythonpath="build/sanitize/lib ." \
		$(SANITIZED_TESTS) $(PYTEST_ARGS)

# Redis, PostgreSQL and the processes of relayd fail at random; without a SEED, another one each time.
SECONDS ?= 900
torture: test-tools $(VENV)/.test
	@$(VENV)/bin/python -m tests.torture.run --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(ARGS)

lint: $(VENV)/.lint
	@failed=0
	echo "lint: ruff check"
	$(VENV)/bin/ruff check --quiet . || failed=1
	echo "lint: ruff format --check"
	$(VENV)/bin/ruff format --quiet --check . || { echo "lint: 'make format' does that"; failed=1; }
	echo "lint: mypy"
	$(VENV)/bin/mypy --no-error-summary || failed=1
	exit $$failed

format: $(VENV)/.lint
	@$(VENV)/bin/ruff check --quiet --fix-only .
	$(VENV)/bin/ruff format .

# In a copy, so that nothing is left in the tree. VERSION=0.1.1 builds it as another version: to try
# an upgrade. SUITE=trixie builds it in a Debian of that release, for it, and leaves it in dist/trixie.
SUITE :=
OTHER_SUITES := $(filter-out $(shell . /etc/os-release 2>/dev/null && echo $$VERSION_CODENAME),bookworm trixie)
DIST := dist$(SUITE:%=/%)
BUILDS_WITH := build-essential debhelper dpkg-dev libpq-dev python3 python3-dev python3-venv
package: $(if $(SUITE),build/debian/$(SUITE).made,package-tools)
	@folder=$$(mktemp -d)
	trap 'rm -rf "$$folder"' EXIT
	mkdir "$$folder/relayd"
	if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
		git ls-files -z --cached --others --exclude-standard
	else
		find . \( -path ./$(VENV) -o -path ./dist -o -path ./build -o -path ./var \) -prune -o -type f -print0
	fi | tar --create --null --ignore-failed-read --files-from=- |
		tar --extract --directory "$$folder/relayd"
	cd "$$folder/relayd"
	if [ -n "$(VERSION)" ]; then
		sed -i 's/^__version__ = .*/__version__ = "$(VERSION)"/' relayd/__init__.py
		sed -i '1s/(.*)/($(VERSION))/' debian/changelog
	fi
	echo "package: dpkg-buildpackage, the log is in $(DIST)/build.log"
	mkdir -p "$(CURDIR)/$(DIST)"
	inside=()
	if [ -n "$(SUITE)" ]; then
		inside=(systemd-nspawn --quiet --register=no --keep-unit --pipe --resolv-conf=bind-host)
		inside+=(--directory="$(CURDIR)/build/debian/$(SUITE)" --bind="$$folder:/src" --chdir=/src/relayd)
		# pip asks and trusts whom it asks and trusts here
		for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL http_proxy https_proxy no_proxy; do
			if [ -n "$${!name:-}" ]; then inside+=(--setenv="$$name"); fi
		done
		trusted=$${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}
		if [ -e "$$trusted" ]; then inside+=(--bind-ro="$$trusted:/etc/pip.pem" --setenv=PIP_CERT=/etc/pip.pem); fi
	fi
	if ! "$${inside[@]}" dpkg-buildpackage --build=binary --no-sign >"$(CURDIR)/$(DIST)/build.log" 2>&1; then
		tail -n 40 "$(CURDIR)/$(DIST)/build.log" >&2
		echo "make: the package could not be built; the whole output is in $(DIST)/build.log" >&2
		exit 1
	fi
	for built in ../*.deb; do
		name=$$(basename "$$built")
		cp "$$built" "$(CURDIR)/$(DIST)/$$name"
		echo "package: $(DIST)/$$name, $$(( $$(stat -c %s "$$built") / 1024 )) KB"
	done

# What another release builds the package with; made again when that changes.
build/debian/%.made: debian/control debian/bootstrap
	@$(install)
	if [ "$$(id -u)" != 0 ]; then
		echo "make: SUITE=$* is built in a container, which only root can: sudo make package SUITE=$*" >&2
		exit 1
	fi
	missing=()
	if ! command -v mmdebstrap >/dev/null; then missing+=(mmdebstrap); fi
	if ! command -v systemd-nspawn >/dev/null; then missing+=(systemd-container); fi
	if [ $${#missing[@]} != 0 ]; then install "$${missing[@]}"; fi
	echo "package: making a Debian in build/debian/$*"
	mkdir -p build/debian
	rm -rf build/debian/$*
	debian/bootstrap $* build/debian/$* ca-certificates $(BUILDS_WITH)
	touch $@

packages: package
	@for suite in $(OTHER_SUITES); do $(MAKE) --no-print-directory package SUITE=$$suite; done

# What the repository has stays in it. KEY names a key of gpg's keyring; without it, one is made there at the first time.
REPOSITORY := dist/apt
URL = file:$(abspath $(REPOSITORY))
KEY :=
apt-repository: apt-repository-tools
	@debian/apt-repository "$(REPOSITORY)" "$(URL)" "$(KEY)" $(wildcard dist/*.deb dist/*/*.deb)

# All tests for this machine's Debian, then those that concern every Debian for the others. BUILT=1 takes the packages that are in
# dist. With SUITE=trixie all tests for that release, and with PYTEST_ARGS those for this machine's, alone.
package-test: package-test-tools $(if $(BUILT),,$(if $(SUITE)$(PYTEST_ARGS),package,packages)) $(VENV)/.test
	@if [ "$$(id -u)" != 0 ]; then
		echo "make: package-test boots a container, which only root can: sudo make package-test" >&2
		exit 1
	fi
	deb=$$(ls $(DIST)/relayd_$$(dpkg-parsechangelog --show-field Version)+*.deb)
	echo "package-test: pytest tests/package, with $$deb"
	PACKAGE_TO_TEST="$$deb" SUITE=$(SUITE) $(VENV)/bin/python -m pytest tests/package $(PYTEST_ARGS)
	for suite in $(if $(SUITE)$(PYTEST_ARGS),,$(OTHER_SUITES)); do
		$(MAKE) --no-print-directory package-test BUILT=1 SUITE=$$suite PYTEST_ARGS="-m every_debian"
	done

pin: $(VENV)/.made
	@if [ ! -x build/pin/bin/uv ]; then
		$(PYTHON) -m venv build/pin
		build/pin/bin/python -m pip --disable-pip-version-check --no-input install -qq uv
	fi
	debian/pin build/pin

log-page: $(VENV)/.test
	@$(VENV)/bin/python -m tests.log_page

clients-table: test-tools $(VENV)/.test
	@$(VENV)/bin/python -m tests.conformance.table $(PYTEST_ARGS)

screenshots: test-tools $(VENV)/.test
	@$(VENV)/bin/python -m tests.screenshots $(ARGS)

bench: bench-tools $(VENV)/.test
	@$(VENV)/bin/python -m bench.run $(ARGS)

clean:
	@rm -rf $(VENV) .bench build dist ./*.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -f twisted/plugins/dropin.cache relayd/native/*.c relayd/native/*.so bench/*.c bench/*.so
	rm -rf bench/build
	find relayd tests bench twisted -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@$(install)
	usable() { $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; }
	if ! command -v $(PYTHON) >/dev/null; then install $(notdir $(PYTHON)) $(notdir $(PYTHON))-venv; fi
	if ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
		echo "make: $(PYTHON) is $$($(PYTHON) -V 2>&1); relayd needs Python 3.11 or newer: make PYTHON=python3.13, say" >&2
		exit 1
	fi
	# Debian keeps what `python3 -m venv` needs in a package of its own.
	if ! usable; then install $(notdir $(PYTHON))-venv; fi
	if ! usable; then
		echo "make: $(PYTHON) can still not make virtual environments (no module ensurepip)" >&2
		exit 1
	fi
	echo "setup: $(VENV) with $$($(PYTHON) -V)"
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	echo "$(CURDIR)" >$@

# relayd/native is compiled: made again whenever it changes.
$(VENV)/.relayd: $(VENV)/.made setup.py relayd/__init__.py $(wildcard relayd/native/*.pyx relayd/native/*.pxd)
	@$(install)
	missing=()
	if ! command -v cc >/dev/null; then missing+=(gcc libc6-dev); fi
	headers() { $(PYTHON) -c 'import os, sysconfig; print(os.path.join(sysconfig.get_path("include"), "Python.h"))'; }
	if [ ! -e "$$(headers)" ]; then missing+=($(notdir $(PYTHON))-dev); fi
	if [ $${#missing[@]} != 0 ]; then install "$${missing[@]}"; fi
	echo "setup: installing relayd and what it needs"
	$(PIP) install -qq --editable '.[bench]'
	touch $@

$(VENV)/.test $(VENV)/.lint: $(VENV)/.%: $(VENV)/.relayd
	@echo "setup: installing what 'make $*' needs"
	$(PIP) install -qq --editable '.[$*]'
	touch $@

# Servers and the browser of the tests: installed when a command is missing, never started here.
test-tools:
	@$(install)
	missing=()
	need() { command -v "$$2" >/dev/null || missing+=("$$1"); }
	PATH=$$PATH:/usr/sbin:/sbin
	compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || need postgresql initdb
	need chromium chromium
	need chromium-driver chromedriver
	need nginx nginx
	need haproxy haproxy
	need caddy caddy
	need curl curl
	need npm npm
	need redis-server redis-server
	need redis-sentinel redis-sentinel
	need pgbouncer pgbouncer
	need prometheus promtool
	need mono-mcs mcs
	need mono-runtime mono
	need default-jdk-headless javac
	[ -e /usr/share/java/okhttp.jar ] || missing+=(libokhttp-java)
	[ -e /usr/share/java/com.android.json.jar ] || missing+=(libandroid-json-java)
	[ -e /usr/lib/mono/4.5/System.Core.dll ] || missing+=(libmono-system4.0-cil libmono-system-core4.0-cil)
	if [ $${#missing[@]} != 0 ]; then install "$${missing[@]}"; fi

# The compiler whose coverage atheris reads, and the part of it that links the sanitizer.
fuzz-tools:
	@$(install)
	missing=()
	if ! command -v clang >/dev/null; then missing+=(clang); fi
	if ! clang -fsanitize=address -x c -o /dev/null - <<<'int main(void) { return 0; }' 2>/dev/null; then
		missing+=("libclang-rt-$$(apt-cache depends clang | sed -n 's/.*Depends: clang-//p' | head -1)-dev")
	fi
	if [ $${#missing[@]} != 0 ]; then install "$${missing[@]}"; fi

bench-tools:
	@$(install)
	missing=()
	need() { command -v "$$2" >/dev/null || missing+=("$$1"); }
	compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || need postgresql initdb
	need redis-server redis-server
	need golang-go go
	for library in gorilla/websocket lib/pq; do
		[ -d "/usr/share/gocode/src/github.com/$$library" ] ||
			missing+=("golang-github-$${library/\//-}-dev")
	done
	if [ $${#missing[@]} != 0 ]; then install "$${missing[@]}"; fi
	# These two peers are left out where they cannot be had; bench.run says so.
	PATH=$$PATH:/usr/sbin:/sbin
	missing=()
	need nginx nginx
	[ -e /usr/lib/nginx/modules/ngx_nchan_module.so ] || missing+=(libnginx-mod-nchan)
	if [ $${#missing[@]} != 0 ]; then (install "$${missing[@]}") || true; fi
	missing=()
	need nodejs node
	need npm npm
	if [ $${#missing[@]} != 0 ]; then (install "$${missing[@]}") || true; fi

package-tools:
	@$(install)
	missing=()
	need() { dpkg-query --show --showformat '$${db:Status-Status}\n' "$$1" 2>/dev/null | grep -qx installed || missing+=("$$1"); }
	for package in $(BUILDS_WITH); do
		need "$$package"
	done
	if [ $${#missing[@]} != 0 ]; then install "$${missing[@]}"; fi

apt-repository-tools:
	@$(install)
	missing=()
	need() { [ -e "$$2" ] || missing+=("$$1"); }
	need apt-utils /usr/bin/apt-ftparchive
	need distro-info-data /usr/share/distro-info/debian.csv
	need gpg /usr/bin/gpg
	need gpg-agent /usr/bin/gpg-agent
	if [ $${#missing[@]} != 0 ]; then install "$${missing[@]}"; fi

package-test-tools: package-tools apt-repository-tools
	@$(install)
	missing=()
	need() { command -v "$$2" >/dev/null || missing+=("$$1"); }
	need lintian lintian
	need mmdebstrap mmdebstrap
	need systemd-container systemd-nspawn
	need systemd systemd-analyze
	need podman podman
	need runc runc
	need catatonit catatonit  # the first process of a pod
	[ -e /usr/lib/podman/netavark ] || missing+=(netavark)
	if [ $${#missing[@]} != 0 ]; then install "$${missing[@]}"; fi
