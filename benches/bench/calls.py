"""What calls and starting cost: trapped calls, connect(), the first connect() of a process, and a program as such."""

import contextlib
import functools
import math

from . import network
from .processes import need, output_of, seconds_of
from .ways import FAST, NATIVE, WRAPPED, serve

TRAPPED = ("trapped-emulated", "trapped-error", "trapped-foreign")
CONNECTING = ("connect", "connect-name", "first-connect")


@contextlib.contextmanager
def starting(setup, results, wanted):
    """`true`, several times a run."""

    def step(way, words):
        for _ in range(math.ceil(setup.amounts.starts / setup.amounts.runs)):
            results.note("true", way, seconds_of("true", [*words, need("true")]) * 1e3)

    yield [functools.partial(step, NATIVE, []), functools.partial(step, WRAPPED, setup.wrap)]


@contextlib.contextmanager
def trapped(setup, results, wanted):
    def step(way, words):
        for name, figure in zip(TRAPPED, output_of("trapped calls", [*words, setup.program("trap")]).split()):
            results.note(name, way, float(figure))

    ways = ((NATIVE, []), (WRAPPED, setup.wrap), (FAST, setup.wrap_fast))
    yield [functools.partial(step, way, words) for way, words in ways]


@contextlib.contextmanager
def connecting(setup, results, wanted):
    def connect(path, count):
        command = [setup.program("connect"), path.address, path.port, count]
        return [float(figure) for figure in path.output_of("connect", command).split()]

    def known(path):
        _, connects, names = connect(path, setup.amounts.connects)
        results.note("connect", path.way, connects)
        results.note("connect-name", path.way, names)

    def first(path):
        for _ in range(math.ceil(setup.amounts.firsts / setup.amounts.runs)):
            results.note("first-connect", path.way, connect(path, 0)[0] / 1e3)

    command = lambda address, port: [setup.program("sink"), address, port]
    with network.loopback() as place, serve(setup, place, "connect", command, (NATIVE, WRAPPED)) as paths:
        for path in paths:  # so that the identity is recorded: what is measured is not the first contact ever
            connect(path, 0)
        yield [functools.partial(measure, path) for measure in (known, first) for path in paths]


GROUPS = [(("true",), starting), (TRAPPED, trapped), (CONNECTING, connecting)]
