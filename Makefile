# make check    format, lints, and the rule about unsafe code
# make test     installs what the tests need (Debian packages; root or sudo) and runs everything
# make fuzz     FUZZ_SECONDS=3600: each fuzz target for that long, keeping what it finds in fuzz/corpus
# make suites   runs test suites of others natively and wrapped, and writes docs/compatibility.md (half an hour)
# make bench    installs what it needs, measures, and writes docs/performance.md and its plots (10 minutes; root)
# make bench-quick  the same in 2 minutes, and prints only; BENCH='--only bulk' for some measures alone
# make count    counts the instructions of a trapped call, a short connection and a megabyte; fails on 10 % growth.
#               UPDATE=1 keeps the new figures
# make install  PREFIX=/usr/local DESTDIR=

CARGO ?= cargo
FUZZ_SECONDS ?= 3600
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
DOCDIR ?= $(PREFIX)/share/doc/quicwrap
TARGET_DIR = $(or $(CARGO_TARGET_DIR),target)

.PHONY: all check format clippy unsafe man test fuzz suites bench bench-quick count install clean

all:
	$(CARGO) build --release --locked

check: format clippy unsafe man

format:
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path fuzz/Cargo.toml

# In the release profile, as the tests: the C library under TLS is then compiled once for both.
clippy:
	$(CARGO) clippy --release --locked --all-targets -- -D warnings

# `unsafe` in src/sys alone, and the compiler is told so everywhere else; src/lib.rs holds src/sys.
unsafe:
	@! grep -rnw --include='*.rs' unsafe src | grep -v '^src/sys/' || \
	    { echo 'make: unsafe code outside src/sys' >&2; exit 1; }
	@missing=$$(grep -rL --include='*.rs' '^#!\[forbid(unsafe_code)\]' src | grep -v -e '^src/sys/' -e '^src/lib\.rs$$'); \
	    [ -z "$$missing" ] || { echo "make: without #![forbid(unsafe_code)]:" $$missing >&2; exit 1; }

# That the page is up to date is a test; here its form is looked at, where mandoc is installed.
man:
	@! command -v mandoc > /dev/null || mandoc -T lint man/quicwrap.1

# --no-fail-fast: one failing kind does not hide the others; the exit status tells all the same. The probes run again
# with every connection left on TCP, which programs must not be able to tell either; with more threads than there may
# be by default, on one QUIC connection to a peer, for the order of its connections (docs/limitations.md); and they, real
# programs, random ones, load and the launcher's tests with calls answered in the program. What is counted at the end is
# the binary that was tested: the features that tests add to dependencies change no figure by one per cent.
test:
	sh tests/install-packages.sh tests/packages.txt
	sh tests/install-aioquic.sh
	$(CARGO) test --release --locked --no-fail-fast
	QUICWRAP_TEST_OPTIONS='--tcp 0.0.0.0/0 --tcp ::/0' $(CARGO) test --release --locked --test probes
	QUICWRAP_TEST_OPTIONS='--threads 3 --connections 1' $(CARGO) test --release --locked --test probes
	QUICWRAP_TEST_OPTIONS='--mode zpoline' $(CARGO) test --release --locked --no-fail-fast --test probes \
	    --test programs --test random --test load --test cli
	CARGO="$(CARGO)" sh fuzz/run.sh 200000 30
	python3 benches/count/run.py --quicwrap $(TARGET_DIR)/release/quicwrap

# No sanitizer: src/sys has the only unsafe code, and no target comes there. What is looked for is panics and hangs.
fuzz:
	CARGO="$(CARGO)" sh fuzz/run.sh -1 $(FUZZ_SECONDS) fuzz/corpus

suites:
	python3 tests/suites/run.py

bench:
	sh tests/install-packages.sh benches/packages.txt
	PYTHONPATH=benches python3 -B -m bench $(BENCH)

bench-quick:
	sh tests/install-packages.sh benches/packages.txt
	PYTHONPATH=benches python3 -B -m bench --quick $(BENCH)

count:
	CARGO="$(CARGO)" python3 benches/count/run.py $(if $(UPDATE),--update)

install: all
	install -D -m 755 $(TARGET_DIR)/release/quicwrap $(DESTDIR)$(BINDIR)/quicwrap
	install -D -m 644 man/quicwrap.1 $(DESTDIR)$(MANDIR)/man1/quicwrap.1
	install -d $(DESTDIR)$(DOCDIR)
	install -m 644 README.md ARCHITECTURE.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE docs/*.md $(wildcard docs/*.png) \
	    $(DESTDIR)$(DOCDIR)

clean:
	$(CARGO) clean
