"""What many connections cost that nobody uses: memory, descriptors and processor time of the two supervisors."""

import contextlib
import subprocess
import time

from . import network, usage
from .processes import BenchError, Process, children
from .ways import WRAPPED, serve

IDLE = ("idle-memory", "idle-descriptors", "idle-cpu")
ENDS = ("server's supervisor", "client's supervisor")  # in the order of Path.carriers
OPENING = 120  # seconds that it may take to make them all
SETTLING = 1  # seconds after which what making them has left behind is done


@contextlib.contextmanager
def idle(setup, results, wanted):
    yield [lambda: _measure(setup, results)]


def _measure(setup, results):
    count, step = setup.amounts.idle, "idle connections"
    command = lambda address, port: [setup.program("sink"), address, port]
    with network.loopback() as place, serve(setup, place, step, command, (WRAPPED,)) as (path,):
        words = [*path.client, setup.program("idle"), path.address, path.port, count]
        with Process(step, words, stdin=subprocess.PIPE) as client:
            _wait_for(client, "first", 1, path)
            supervisors = path.carriers(client)
            if len(supervisors) != len(ENDS):
                raise BenchError(f"{step}: two supervisors were expected, and found: {supervisors}")
            before = [(usage.resident(pid), usage.descriptors(pid)) for pid in supervisors]
            client.process.stdin.write(b"\n")
            client.process.stdin.flush()
            _wait_for(client, "all", count + 1, path)
            time.sleep(SETTLING)
            begin = [usage.cpu(pid) for pid in supervisors]
            time.sleep(setup.amounts.idle_seconds)
            for end, pid, (memory, descriptors), seconds in zip(ENDS, supervisors, before, begin):
                results.note("idle-memory", end, (usage.resident(pid) - memory) / count / 1e3)
                results.note("idle-descriptors", end, (usage.descriptors(pid) - descriptors) / count)
                results.note("idle-cpu", end, (usage.cpu(pid) - seconds) * 1e3 * 10 / setup.amounts.idle_seconds)


def _wait_for(client, word, count, path):
    """Until the client says so, and the server has taken as many connections."""
    client.wait_until(lambda: word in client.printed().split(), f"'{word}'", OPENING)
    (supervisor,) = children(path.server.pid)
    (sink,) = children(supervisor)
    client.wait_until(lambda: usage.descriptors(sink) >= count, f"{count} connections taken", OPENING)


GROUPS = [(IDLE, idle)]
