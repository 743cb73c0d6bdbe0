"""The tables, in Markdown, and the description of the machine."""

import os
import pathlib
import platform
import re

from . import catalogue
from .processes import Process, need
from .results import CPU, CPU_ALL, MEMORY, MEMORY_ALL
from .setup import ROOT
from .targets import TARGETS
from .ways import NATIVE

MEGABYTE = 1e6


def tables(results):
    """All that was measured."""
    parts = [
        ("Throughput", _throughput(results)),
        ("Requests and latency", _plain(results, catalogue.REQUESTS, with_native=True)),
        ("Calls and starting", _plain(results, catalogue.CALLS, with_native=True)),
        ("10,000 idle connections", _plain(results, catalogue.IDLE, with_native=False)),
        ("Targets", _targets(results)),
    ]
    texts = [f"### {title}\n\n" + _table(*table) for title, table in parts if table[1]]
    if results.failures:
        causes = "\n".join(f"    {line}" for error in results.failures for line in error.splitlines())
        texts.append(f"### Failures\n\nThese steps failed, and are not in the tables:\n\n{causes}")
    return "\n\n".join(texts)


WORDS = {"what", "way", "target", "unit", ""}  # columns that hold no figures


def _table(head, rows):
    align = ["---" if name in WORDS else "--:" for name in head]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, align, *rows])


def shown(figure):
    """Three significant digits at least, and no more than two behind the point."""
    if figure is None:
        return "–"
    if abs(figure) >= 1000:
        return f"{figure:,.0f}"
    return f"{figure:.{0 if abs(figure) >= 100 else 1 if abs(figure) >= 10 else 2}f}"


def _spread(results, measure, way):
    samples = results.of(measure, way)
    return [shown(results.median(measure, way)), shown(min(samples)), shown(max(samples))]


def _to_native(results, measure, way):
    native = results.median(measure, NATIVE)
    return f"{results.median(measure, way) / native:.2f}" if native else "–"


def _throughput(results):
    head = ["what", "way", "Gbit/s", "min", "max", "÷ native"]
    head += ["CPU s/GB", "… all", "peak MB", "… all"]
    rows = []
    for measure, about in catalogue.THROUGHPUT.items():
        for way in results.ways(measure):
            cost = [shown(results.median(measure, way, aspect)) for aspect in (CPU, CPU_ALL)]
            for aspect in (MEMORY, MEMORY_ALL):
                bytes_ = results.median(measure, way, aspect)
                cost.append("–" if bytes_ is None else f"{bytes_ / MEGABYTE:.0f}")
            rows.append([about.title, way, *_spread(results, measure, way), _to_native(results, measure, way), *cost])
    return head, rows


def _plain(results, measures, with_native):
    head = ["what", "way", "median", "min", "max", "unit"] + ["÷ native"] * with_native
    rows = []
    for measure, about in measures.items():
        for way in results.ways(measure):
            row = [about.title, way, *_spread(results, measure, way), about.unit]
            rows.append(row + [_to_native(results, measure, way)] * with_native)
    return head, rows


def _targets(results):
    rows = []
    for target in TARGETS:
        figure = target.figure(results)
        if figure is not None:
            verdict = "reached" if target.is_reached(figure) else "NOT reached"
            rows.append([target.title, target.wanted(), shown(figure), verdict])
    return ["target", "wanted", "measured", ""], rows


def machine():
    """Where this was measured, and with what."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    # The release's first three numbers: what follows is the builder's own.
    release = platform.release().split("-")[0]
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GB, Linux {release}; {', '.join(_versions())}"


def _versions():
    """Of the peers: what they say first of themselves."""
    commands = {
        "iperf3": ["--version"],
        "stunnel4": ["-version"],
        "openssl": ["version"],
        "redis-server": ["--version"],
        "nginx": ["-v"],
        "ab": ["-V"],
        "wrk": ["-v"],
    }
    for program, options in commands.items():
        with Process("versions", [need(program), *options]) as process:
            process.process.wait()  # wrk's status is 1 after its version
            said = process.all_printed()
        found = re.search(r"\d+\.\d+[\w.]*", said)
        yield f"{program} {found[0] if found else '?'}"
    quinn = re.search(r'name = "quinn"\nversion = "([^"]+)"', (ROOT / "Cargo.lock").read_text())
    yield f"quinn {quinn[1] if quinn else '?'}"
