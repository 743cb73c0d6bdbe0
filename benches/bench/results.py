"""What was measured: samples by measure, way and aspect."""

import contextlib
import statistics
import subprocess
import sys

from .processes import BenchError
from .ways import WAYS

RATE = "rate"  # the figure that the measure is named for
CPU, CPU_ALL = "cpu", "cpu of all"  # seconds per gigabyte
MEMORY, MEMORY_ALL = "memory", "memory of all"  # bytes


class Results:
    def __init__(self):
        self.samples = {}
        self.failures = []

    @contextlib.contextmanager
    def watch(self):
        """What fails is kept and told, and the rest is measured all the same."""
        try:
            yield
        except (BenchError, OSError, subprocess.SubprocessError) as error:
            print(f"bench: {error}", file=sys.stderr)
            self.failures.append(str(error))

    def note(self, measure, way, figure, aspect=RATE):
        self.samples.setdefault((measure, way, aspect), []).append(figure)

    def of(self, measure, way, aspect=RATE):
        """The samples; none if it was not measured."""
        return self.samples.get((measure, way, aspect), [])

    def median(self, measure, way, aspect=RATE):
        """None if it was not measured."""
        samples = self.of(measure, way, aspect)
        return statistics.median(samples) if samples else None

    def ways(self, measure):
        """The ways that it was measured in."""
        ways = [way for name, way, aspect in self.samples if name == measure and aspect == RATE]
        return sorted(ways, key=lambda way: WAYS.index(way) if way in WAYS else len(WAYS))
