"""make bench: measures, prints tables, and writes them into docs/performance.md."""

import argparse
import dataclasses
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

from . import calls, catalogue, idle, page, plots, processes, report, requests, throughput
from .processes import BenchError
from .results import Results
from .setup import QUICK, Amounts, Setup

# (names of measures, what opens them): opened once each; the steps of a group are then taken in turn, run by run, so
# that a change in the machine's speed meets every way.
GROUPS = [*throughput.GROUPS, *requests.GROUPS, *calls.GROUPS, *idle.GROUPS]


def arguments():
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer runs, and shorter; docs/performance.md stays as is")
    parser.add_argument("--runs", type=int, help=f"runs (default {Amounts.runs}, quick {QUICK.runs})")
    parser.add_argument("--only", metavar="NAME[,NAME]", help="some measures alone: " + ", ".join(catalogue.ALL))
    parser.add_argument("--quicwrap", metavar="PATH", help="the binary to measure (default: built here, --release)")
    parser.add_argument("--no-page", action="store_true", help="leave docs/performance.md alone, as --only does")
    given = parser.parse_args()
    given.wanted = set(given.only.split(",") if given.only else catalogue.ALL)
    if unknown := given.wanted - set(catalogue.ALL):
        parser.error(f"no measure is called {', '.join(sorted(unknown))}; there are: {', '.join(catalogue.ALL)}")
    if given.runs is not None and given.runs < 1:
        parser.error("--runs is 1 at least")
    return given


def allow_many_files(count):
    """For ten thousand connections, in programs and supervisors."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < count:
        raise BenchError(f"{count} open files are needed, and only {most} allowed: raise the limit with ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, most))


def measure(setup, wanted):
    results = Results()
    for names, group in GROUPS:
        if not wanted.intersection(names):
            continue
        begin = time.monotonic()
        with results.watch(), group(setup, results, wanted) as steps:
            for _ in range(setup.amounts.runs):
                for step in steps:
                    with results.watch():
                        step()
        taken = time.monotonic() - begin
        print(f"{', '.join(name for name in names if name in wanted)}: {taken:.0f} s", file=sys.stderr)
    return results


def run(given, folder):
    amounts = QUICK if given.quick else Amounts()
    if given.runs:
        amounts = dataclasses.replace(amounts, runs=given.runs)
    if given.wanted.intersection(catalogue.IDLE):
        allow_many_files(2 * amounts.idle)
    setup = Setup(amounts, folder, given.quicwrap)
    if given.wanted.intersection(catalogue.THROUGHPUT):
        setup.build_raw_quinn()
    results = measure(setup, given.wanted)
    machine, tables = report.machine(), report.tables(results)
    print(f"{machine}\n\n{tables}")
    if not (given.quick or given.only or given.no_page):
        page.write(machine, tables, plots.draw(results, page.PAGE.parent))
    return 1 if results.failures else 0


def main():
    given = arguments()
    processes.stop_on_signals()
    processes.adopt()
    try:
        with tempfile.TemporaryDirectory(prefix="quicwrap-bench-") as folder:
            return run(given, pathlib.Path(folder))
    except (BenchError, OSError, subprocess.SubprocessError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        processes.end_all(processes.descendants(os.getpid()))


if __name__ == "__main__":
    sys.exit(main())
