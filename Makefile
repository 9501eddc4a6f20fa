# The few commands that a developer needs. `make` alone lists them.

CARGO ?= cargo
# A fresh rustup is not in the PATH of the shell that installed it.
export PATH := $(PATH):$(HOME)/.cargo/bin

mini_distro = target/mini-distro
# Upstream programs that tests and benchmarks build.
tested = bc ed hello tree
measured = $(tested) bzip2 file gperf patch zlib
# What `make install` installs, and where: the usual variables.
binary ?= target/release/reimzul
PREFIX ?= /usr/local
bindir = $(DESTDIR)$(PREFIX)/bin
sharedir = $(DESTDIR)$(PREFIX)/share
libdir = $(DESTDIR)$(PREFIX)/lib
old_names = reimzul_submit.py reimzul_query reimzul_fix_build reimzul_client submit_repogen.py stats.py
shell_scripts = tools/install-deps tools/python-env examples/demo examples/build-all examples/common.bash .ci/run
python_scripts = examples/mini-distro/mini-distro examples/mini-distro/host-target \
	examples/packages/fetch-source tests/metadata/describe.py tests/harness/mail_server.py \
	tests/mongodb/old_fleet.py tests/mixed/old_site.py tests/remote/git_server.py

.PHONY: help build install demo examples test bench lint fmt clean-demo deps fixtures \
	check-format check-clippy check-licenses check-scripts check-ansible

help: ## list these targets (the default)
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
		while IFS='|' read -r target text; do printf '%-18s %s\n' "$$target" "$$text"; done

build: deps ## compile the program, optimized
	$(CARGO) build --release --locked

install: $(binary) ## install it below PREFIX (/usr/local) and DESTDIR, after `make build`
	install -D -m 755 $(binary) $(bindir)/reimzul
	for name in $(old_names); do ln -sf reimzul $(bindir)/$$name || exit 1; done
	$(bindir)/reimzul man -q --out $(sharedir)/man/man1
	mkdir -p $(sharedir)/bash-completion/completions $(sharedir)/zsh/site-functions \
		$(sharedir)/fish/vendor_completions.d
	$(bindir)/reimzul completions bash > $(sharedir)/bash-completion/completions/reimzul
	$(bindir)/reimzul completions zsh > $(sharedir)/zsh/site-functions/_reimzul
	$(bindir)/reimzul completions fish > $(sharedir)/fish/vendor_completions.d/reimzul.fish
	install -D -m 644 config/reimzul.ini $(sharedir)/doc/reimzul/reimzul.ini
	install -D -m 644 config/logrotate $(sharedir)/doc/reimzul/logrotate
	mkdir -p $(libdir)/systemd/system
	for unit in $(notdir $(wildcard systemd/*.service systemd/*.target)); do \
		sed 's|/usr/local/bin/|$(PREFIX)/bin/|' systemd/$$unit > $(libdir)/systemd/system/$$unit || exit 1; \
	done
	install -D -m 644 systemd/reimzul.sysusers $(libdir)/sysusers.d/reimzul.conf
	install -D -m 644 systemd/reimzul.tmpfiles $(libdir)/tmpfiles.d/reimzul.conf

demo: deps ## build real packages into a repository under demo/, and install one from it
	$(CARGO) build --release --locked
	@examples/demo

examples: deps fixtures ## build upstream programs for x86_64 and i386, below target/examples/
	$(CARGO) build --release --locked
	@examples/build-all

test: deps fixtures ## run every test
	$(CARGO) test --locked --features psk

bench: deps fixtures ## measure
	@examples/packages/fetch-source $(addprefix examples/packages/,$(measured))
	$(CARGO) bench --locked

lint: check-format check-clippy check-licenses check-scripts check-ansible ## check style, lints, licenses, scripts, roles

fmt: ## format the sources
	$(CARGO) fmt

clean-demo: ## remove demo/
	@# Built without root, it holds files of subordinate users, which only a namespace may remove.
	@rm -rf demo 2>/dev/null || unshare --map-auto --map-root-user rm -rf demo

# What the targets above stand on.

# Not compiled here: who installs may be root, without the compiler.
$(binary):
	@echo "$(binary) is not there: run make build first" >&2; exit 1

deps:
	@tools/install-deps

# Real packages are built in real chroots of these distributions, by tests and benchmarks.
fixtures: deps
	@examples/mini-distro/mini-distro $(mini_distro)
	@if [ "$$(uname -m)" != x86_64 ]; then \
		echo "mini-distro: none is made for i386, whose programs this machine cannot run"; \
	else \
		examples/mini-distro/mini-distro --arch i386 $(mini_distro)-i386 || \
			echo "mini-distro: going on without one for i386; the tests that need it will say so"; \
	fi
	@examples/packages/fetch-source $(addprefix examples/packages/,$(tested))
	@tools/python-env target/python tests/requirements.txt

check-format:
	$(CARGO) fmt --check

check-clippy:
	$(CARGO) clippy --all-targets --locked -- -D warnings
	@# The feature stands on OpenSSL, which tools/install-deps brings.
	@if pkg-config --exists openssl; then \
		$(CARGO) clippy --lib --test transport --locked --features psk -- -D warnings; \
	fi

check-licenses:
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		$(CARGO) deny --locked check licenses bans sources; \
	else \
		echo "licenses are not checked: cargo-deny is missing (cargo install --locked cargo-deny)"; \
	fi

check-scripts:
	@for script in $(shell_scripts); do bash -n $$script || exit 1; done
	@python3 -c 'import ast, sys; [ast.parse(open(name).read(), name) for name in sys.argv[1:]]' \
		$(python_scripts)
	@if command -v shellcheck >/dev/null; then shellcheck $(shell_scripts); fi

# `make test` checks them, too.
check-ansible:
	@tools/python-env target/python tests/requirements.txt
	@cd deploy/ansible && PATH=$(CURDIR)/target/python/bin:$$PATH ansible-lint --offline --profile production -q
