"""The plots, drawn by gnuplot."""

import subprocess

from . import catalogue
from .processes import PATIENCE, BenchError, need
from .results import CPU, RATE
from .ways import NATIVE, RAW, STUNNEL, WRAPPED

COLOURS = {NATIVE: "#9aa0a6", WRAPPED: "#1a73e8", STUNNEL: "#e8710a", RAW: "#7cb342"}
SHORT = {
    "bulk": "1 stream",
    "bulk-reverse": "-R",
    "bulk-both": "--bidir",
    "bulk-8": "-P 8",
    "bulk-64": "-P 64",
    "veth-1500": "veth 1500",
    "veth-9000": "veth 9000",
    "redis-ping": "redis PING",
    "connect": "connect()",
    "trapped-emulated": "getsockname()",
    "redis-get": "redis GET",
    "redis-get-16": "redis GET -P 16",
    "ab": "ab, no keep-alive",
    "wrk": "wrk, keep-alive",
}
BULK = [name for name in catalogue.THROUGHPUT if name != "loss"]


def draw(results, folder):
    """Draws what was measured; returns [(file name, what it shows)]."""
    plain = lambda aspect: lambda measure, way: results.median(measure, way, aspect)

    def share(measure, way):
        figure, native = results.median(measure, way), results.median(measure, NATIVE)
        return figure and native and 100 * figure / native

    plots = [
        ("throughput", "Throughput, Gbit/s", BULK, COLOURS, plain(RATE)),
        ("cpu", "Processor time of what carries the bytes, seconds per GB", BULK, [WRAPPED, STUNNEL, RAW], plain(CPU)),
        ("requests", "Requests per second, % of native TCP", ["redis-get", "redis-get-16", "ab", "wrk"],
         [WRAPPED, STUNNEL], share),
        ("latency", "Latency, µs", ["redis-ping", "connect", "trapped-emulated"], [NATIVE, WRAPPED, STUNNEL],
         plain(RATE)),
    ]
    drawn = []
    for name, title, measures, ways, figure in plots:
        measures = [measure for measure in measures if results.ways(measure)]
        if measures:
            file = f"performance-{name}.png"
            _bars(folder / file, title, measures, ways, figure)
            drawn.append((file, title))
    return drawn


def _bars(path, title, measures, ways, figure):
    """A group of bars for each measure, a colour for each way; what was not measured has no bar."""
    lines = [
        "set terminal pngcairo size 1000,420 font 'sans,11' noenhanced",
        f"set output '{path}'",
        f"set title '{title}'",
        "set style data histogram",
        "set style histogram clustered gap 1",
        "set style fill solid noborder",
        "set yrange [0:*]",
        "set grid ytics linetype 1 linewidth 1 linecolor rgb '#dddddd'",
        "set border 3 linecolor rgb '#666666'",
        "set tics nomirror",
        "set xtics scale 0",
        "set key outside right top reverse Left",
        "set datafile missing '?'",
        "$data << END",
    ]
    for measure in measures:
        values = [figure(measure, way) for way in ways]
        lines.append(f'"{SHORT[measure]}" ' + " ".join("?" if value is None else f"{value:.4f}" for value in values))
    bars = [
        f"$data using {column}:xtic(1) title '{way}' linecolor rgb '{COLOURS[way]}'"
        for column, way in enumerate(ways, start=2)
    ]
    lines += ["END", "plot " + ", ".join(bars)]
    command = [need("gnuplot")]
    done = subprocess.run(command, input="\n".join(lines), text=True, capture_output=True, timeout=PATIENCE)
    if done.returncode != 0:
        raise BenchError(f"drawing {path.name}: gnuplot: status {done.returncode}: {done.stderr.strip()}")
