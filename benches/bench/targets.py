"""What is wanted, and whether it was reached: computed from the medians of one run."""

import dataclasses
import typing

from .catalogue import CALLS, REQUESTS, THROUGHPUT
from .idle import ENDS
from .results import CPU
from .ways import FAST, NATIVE, RAW, STUNNEL, WRAPPED


@dataclasses.dataclass(frozen=True)
class Target:
    """A figure of a run, and its bound."""

    title: str
    at_least: bool
    bound: float
    figure: typing.Callable  # of the results; None if something was not measured

    def wanted(self):
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"

    def is_reached(self, figure):
        return figure >= self.bound if self.at_least else figure <= self.bound


def _ratio(one, other):
    """The ratio of two medians, each given by (measure, way[, aspect])."""

    def figure(results):
        above, below = results.median(*one), results.median(*other)
        return above / below if above is not None and below else None

    return figure


def _against(measure, way, at_least, bound, title=None):
    """quicwrap beside another way."""
    title = f"{title or {**THROUGHPUT, **REQUESTS}[measure].title}: quicwrap ÷ {way}"
    return Target(title, at_least, bound, _ratio((measure, WRAPPED), (measure, way)))


def _as_one_stream(measure):
    title = f"{THROUGHPUT[measure].title}: quicwrap ÷ its own 1 stream"
    return Target(title, True, 0.9, _ratio((measure, WRAPPED), ("bulk", WRAPPED)))


def _plain(measure, bound, title=None):
    title = title or f"{CALLS[measure].title}, {CALLS[measure].unit}"
    return Target(title, False, bound, lambda results: results.median(measure, WRAPPED))


def _fast(measure, at_least, bound, title=None):
    """zpoline mode beside the other."""
    title = f"{title or {**THROUGHPUT, **REQUESTS}[measure].title}: --mode zpoline ÷ seccomp"
    return Target(title, at_least, bound, _ratio((measure, FAST), (measure, WRAPPED)))


def _answered(measure, bound):
    title = f"{CALLS[measure].title} with --mode zpoline, µs"
    return Target(title, False, bound, lambda results: results.median(measure, FAST))


def _idle(measure, what, bound):
    for end in ENDS:
        yield Target(f"{what}, {end}", False, bound, lambda results, end=end: results.median(measure, end))


TARGETS = [
    _against("bulk", NATIVE, True, 0.8),
    _against("bulk", STUNNEL, True, 4),
    _against("veth-1500", RAW, True, 0.9),
    *map(_as_one_stream, ("bulk-reverse", "bulk-both", "bulk-8", "bulk-64")),
    Target(
        "CPU seconds per GB, 1 stream, loopback: two supervisors ÷ raw_quinn",
        False,
        1.3,
        _ratio(("bulk", WRAPPED, CPU), ("bulk", RAW, CPU)),
    ),
    _against("redis-ping", STUNNEL, False, 0.8),
    _against("redis-get", STUNNEL, True, 4),
    _against("redis-get-16", STUNNEL, True, 2.5),
    _against("ab", NATIVE, True, 0.5),
    _against("ab", STUNNEL, True, 5),
    _against("wrk", STUNNEL, True, 3),
    Target(
        "connect() to a known peer ÷ the getsockname() behind it",
        False,
        3,
        _ratio(("connect", WRAPPED), ("connect-name", WRAPPED)),
    ),
    _plain("trapped-emulated", 12, "trapped call on an emulated socket, µs"),
    _plain("trapped-foreign", 8, "trapped call on another socket, µs"),
    _answered("trapped-emulated", 0.6),
    _answered("trapped-error", 0.6),
    _answered("trapped-foreign", 0.5),
    _fast("ab", True, 1.3),
    _fast("bulk", True, 0.95),
    _fast("redis-ping", False, 1.05),
    _fast("redis-get", True, 0.95),
    *_idle("idle-memory", "kB of each of 10,000 idle connections", 12),
    # The few that are not for connections, such as a file being read, are not to make a difference.
    *_idle("idle-descriptors", "descriptors of each", 1.001),
    # One tick of the kernel's clock, the least that can be seen.
    *_idle("idle-cpu", "ms of processor time in 10 idle seconds", 10),
    _plain("true", 10, "`quicwrap -- true`, ms"),
    _plain("first-connect", 5),
    _against("loss", NATIVE, True, 1),
]
