"""What processes cost: processor time, memory, descriptors. From /proc."""

import contextlib
import os
import pathlib

TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds
SAMPLING = 0.1  # seconds between samples of a process that may end at any time


def cpu(pid):
    """Seconds of processor time so far, of all its threads: proc_pid_stat(5)."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * TICK


def _status(pid, name):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return 0  # a process that has just ended has no memory


def resident(pid):
    """Bytes of memory now."""
    return _status(pid, "VmRSS")


def peak(pid):
    """Bytes of memory at most."""
    return _status(pid, "VmHWM")


def forget_peak(pid):
    """The peak counts from now: proc_pid_clear_refs(5)."""
    with contextlib.suppress(OSError):
        pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


class Meter:
    """Adds up what two sets of processes cost while a client runs. The client's processes end with it, and so they are
    looked at again and again: what is missed is less than the time between two looks."""

    def __init__(self, path):
        """To be called before the client runs."""
        self.path = path
        self.before = {}  # seconds; who is not in it began with 0
        self.cpu, self.peak, self.carriers = {}, {}, set()
        for pid in path.running():
            forget_peak(pid)
            self.before[pid] = cpu(pid)

    def look(self, client):
        self.carriers.update(self.path.carriers(client))
        for pid in self.path.everyone(client):
            with contextlib.suppress(OSError):
                self.cpu[pid] = cpu(pid)
                self.peak[pid] = max(peak(pid), self.peak.get(pid, 0))

    def sums(self):
        """(seconds, bytes) of the carriers, and of all."""
        for pids in (self.carriers, self.cpu.keys()):
            seconds = sum(self.cpu.get(pid, 0) - self.before.get(pid, 0) for pid in pids)
            yield seconds, sum(self.peak.get(pid, 0) for pid in pids)
