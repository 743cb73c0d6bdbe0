#!/usr/bin/env python3
"""Runs test suites that nobody here wrote, natively and then wrapped, and compares test by test.

Prints a table, and writes it into docs/compatibility.md between its two markers. What counts are the tests that pass
natively on this machine, on the same day: how many of them pass wrapped, and why the others do not. The reasons are in
known.txt beside this file, each a heading of docs/limitations.md.

The suites themselves are scripts, beside this file or in a folder beside the repository, ../shared/suites, or where
SUITES says. They install Debian packages, so this needs root, and take about half an hour. Name some to run only those;
the others' rows are made from their last results, if there are any in $SUITE_DIR.
"""

import datetime
import os
import pathlib
import platform
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SCRIPTS = pathlib.Path(os.environ.get("SUITES", ROOT.parent / "shared" / "suites"))
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PAGE = ROOT / "docs" / "compatibility.md"
KNOWN = pathlib.Path(__file__).with_name("known.txt")
BEGIN, END = "<!-- make suites: begin -->", "<!-- make suites: end -->"
SUITES = {
    "cpython-core": "CPython 3.11: socket, select, asyncio …",
    "cpython-proto": "CPython 3.11: http, ftp, ssl, xmlrpc …",
    "go": "Go's net, net/http, crypto/tls …",
    "libuv": "libuv 1.44",
    "python-libraries": "Tornado, Twisted, Trio, pyzmq",
}
LIMIT = 30 * 60  # seconds for one suite, run once


def run(name, work, label, wrap):
    """Runs a suite, whose results lie in a file then."""
    environment = dict(os.environ, SUITES=str(SCRIPTS), SUITE_DIR=str(work), WRAP=wrap, LABEL=label)
    print(f"{name}, {label} …", file=sys.stderr, flush=True)
    with open(work / f"{name}-{label}.log", "w") as log:
        own = pathlib.Path(__file__).with_name(f"{name}.sh")
        script = own if own.exists() else SCRIPTS / own.name
        subprocess.run([script], env=environment, stdout=log, stderr=log, timeout=LIMIT, check=False)


def results(name, work, label):
    """A suite's tests by their result, as its last run left them; none if it was never run."""
    found = {"PASS": set(), "FAIL": set(), "SKIP": set()}
    path = work / name / f"results-{label}.txt"
    for line in path.read_text().splitlines() if path.exists() else []:
        result, _, test = line.partition(" ")
        found.setdefault(result, set()).add(test)
    # A test that is run twice counts once, and as failed if it failed once.
    found["PASS"] -= found["FAIL"]
    return found


def known():
    """The headings that explain failures, by suite and test."""
    lines = [line for line in KNOWN.read_text().splitlines() if line and not line.startswith("#")]
    fields = [line.split("|") for line in lines]
    return {(suite.strip(), test.strip()): reason.strip() for suite, test, reason in fields}


def explain(reasons, suite, test):
    for (of, prefix), reason in reasons.items():
        if of == suite and prefix in test:
            return reason
    return "**unexplained**"


def main():
    chosen = sys.argv[1:] or list(SUITES)
    unknown = [name for name in chosen if name not in SUITES]
    if unknown or not SCRIPTS.is_dir():
        sys.exit(f"no suite {unknown}" if unknown else f"no suites in {SCRIPTS}; set SUITES to their folder")
    subprocess.run(["cargo", "build", "--release", "--locked"], cwd=ROOT, check=True)
    work = pathlib.Path(os.environ.get("SUITE_DIR", tempfile.gettempdir() + "/quicwrap-suites"))
    (work / "state").mkdir(parents=True, exist_ok=True)
    wrap = f"{TARGET / 'release' / 'quicwrap'} --state-dir {work / 'state'} --"
    reasons, rows, failures = known(), [], []
    for name in chosen:
        run(name, work, "native", "")
        run(name, work, "wrap", wrap)
    for name in SUITES:
        base, wrapped = results(name, work, "native")["PASS"], results(name, work, "wrap")
        if not base or not wrapped["PASS"]:
            sys.exit(f"{name}: no test passed, or it was never run; see {work}/{name}-*.log")
        passed = len(base & wrapped["PASS"])
        rows.append(f"| {SUITES[name]} | {len(base):,} | {passed:,} | {100 * passed / len(base):.2f} % |")
        for test in sorted(base - wrapped["PASS"]):
            failures.append(f"| {name} | `{test}` | {explain(reasons, name, test)} |")
    system = f"Linux {platform.release()}, {os.cpu_count()} cores, {datetime.date.today()}"
    table = ["| suite | pass natively | of these, pass wrapped | |", "|---|--:|--:|--:|", *rows, "", f"({system})", ""]
    if failures:
        table += ["| suite | test that fails wrapped | the reason: a heading of limitations.md |", "|---|---|---|", *failures]
    text = "\n".join(table).rstrip()
    print(text)
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


main()
