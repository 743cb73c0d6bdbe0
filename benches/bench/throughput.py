"""How many bytes a second: iperf3 and raw_quinn, on loopback and over veth, and a transfer that loses packets."""

import contextlib
import functools
import json

from . import network
from .processes import BenchError, need
from .results import CPU, CPU_ALL, MEMORY, MEMORY_ALL
from .usage import SAMPLING, Meter
from .ways import FAST, NATIVE, RAW, STUNNEL, WAYS, WRAPPED, serve

GIGABYTE = 1e9
LOSSY_TIME = 120  # seconds that the lossy transfer may take

# By name of the measure: what iperf3 is told, and what raw_quinn.
LOOPBACK = {
    "bulk": ([], []),
    "bulk-reverse": (["-R"], ["--reverse"]),
    "bulk-both": (["--bidir"], ["--both"]),
    "bulk-8": (["-P", "8"], ["--streams", "8"]),
    "bulk-64": (["-P", "64"], ["--streams", "64"]),
}
# stunnel's buffers are so small that both iperf3, which do not read while they write, often stall for good.
STALLS = {("bulk-both", STUNNEL)}
# Reads and writes are no other with calls answered in the program: one measure is to show it.
BULK_FAST = "bulk"
ETHERNET = {"veth-1500": LOOPBACK["bulk"]}
JUMBO = {"veth-9000": LOOPBACK["bulk"]}


@contextlib.contextmanager
def bulk(place, variants, setup, results, wanted):
    """A group of measures: the steps of one run."""
    command = lambda address, port: [need("iperf3"), "-s", "-B", address, "-p", port]
    ways = [way for way in WAYS if way != FAST or BULK_FAST in variants]
    with place() as where, serve(setup, where, "iperf3", command, ways) as paths:
        for path in paths:  # identities are made and pinned, caches warm
            _transfer(setup, path, *LOOPBACK["bulk"])
        yield [
            functools.partial(_rate, setup, results, path, name)
            for name in variants
            if name in wanted
            for path in paths
            if (name, path.way) not in STALLS and (path.way != FAST or name == BULK_FAST)
        ]


def _rate(setup, results, path, name):
    options = {**LOOPBACK, **ETHERNET, **JUMBO}[name]
    arrived, seconds, meter = _transfer(setup, path, *options)
    results.note(name, path.way, arrived * 8 / seconds / 1e9)
    _note_usage(results, path, name, arrived, meter)


def _note_usage(results, path, name, arrived, meter):
    carriers, everyone = meter.sums()
    if path.way != NATIVE:  # which nobody carries but the kernel
        results.note(name, path.way, carriers[0] / (arrived / GIGABYTE), CPU)
        results.note(name, path.way, carriers[1], MEMORY)
    results.note(name, path.way, everyone[0] / (arrived / GIGABYTE), CPU_ALL)
    results.note(name, path.way, everyone[1], MEMORY_ALL)


def _transfer(setup, path, iperf3, raw):
    """(bytes that arrived, in how many seconds, the meter)."""
    seconds = setup.amounts.seconds
    if path.way == RAW:
        command = [f"{path.address}:{path.port}", setup.raw_certificate, "--seconds", seconds, *raw]
    else:
        command = [need("iperf3"), "-c", path.address, "-p", path.port, "-t", seconds, "-J", *iperf3]
    step = f"throughput {' '.join(iperf3)}".strip()
    report, meter = _metered(path, step, command, seconds)
    if path.way == RAW:
        return report["bytes"], report["seconds"], meter
    sums = [report["end"][name] for name in ("sum_received", "sum_received_bidir_reverse") if name in report["end"]]
    arrived = sum(each["bytes"] for each in sums)
    if not arrived:  # which iperf3 does not call a failure
        cause = report.get("error", "nothing arrived")
        raise BenchError(f"{step}, {path.way}: {cause}\n  its server {path.server.process.state()}")
    return arrived, max(each["seconds"] for each in sums), meter


def _metered(path, step, command, seconds):
    path.server.revive()
    meter = Meter(path)
    client = path.start(step, command)
    report = json.loads(path.result(client, seconds, meanwhile=lambda: meter.look(client), pause=SAMPLING))
    return report, meter


@contextlib.contextmanager
def lossy(setup, results, wanted):
    """100 MB with 1 % of the packets lost, each direction; native TCP with quicwrap's congestion control."""
    command = lambda address, port: [setup.program("sink"), address, port]
    place = network.veth(1500, loss=True)
    with place as where, serve(setup, where, "1 % loss", command, (NATIVE, WRAPPED, STUNNEL, RAW)) as paths:
        for path in paths:
            _lossy_transfer(setup, path, 1_000_000)
        yield [functools.partial(_lossy_rate, setup, results, path) for path in paths]


def _lossy_rate(setup, results, path):
    count = setup.amounts.lossy_bytes
    seconds, meter = _lossy_transfer(setup, path, count)
    results.note("loss", path.way, count * 8 / seconds / 1e9)
    _note_usage(results, path, "loss", count, meter)


def _lossy_transfer(setup, path, count):
    """(seconds, the meter)."""
    if path.way == RAW:
        command = [f"{path.address}:{path.port}", setup.raw_certificate, "--bytes", count]
    else:
        command = [setup.program("send"), path.address, path.port, count]
    report, meter = _metered(path, "1 % loss", command, LOSSY_TIME)
    return (report["seconds"] if path.way == RAW else report), meter


GROUPS = [
    (LOOPBACK, functools.partial(bulk, network.loopback, LOOPBACK)),
    (ETHERNET, functools.partial(bulk, functools.partial(network.veth, 1500), ETHERNET)),
    (JUMBO, functools.partial(bulk, functools.partial(network.veth, 9000), JUMBO)),
    (("loss",), lossy),
]
