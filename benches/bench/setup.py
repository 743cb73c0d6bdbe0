"""What a run measures with: amounts, folders, and the programs that are built for it."""

import dataclasses
import json
import pathlib
import subprocess
import sys

from .processes import BenchError, need, output_of

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BENCHES = ROOT / "benches"
COMPILING = 15 * 60  # seconds that a build from nothing may take


@dataclasses.dataclass(frozen=True)
class Amounts:
    """How much is measured at a time."""

    runs: int = 5
    seconds: int = 2  # of one transfer, and of one load of requests
    pings: int = 5_000
    redis_requests: int = 100_000  # and five times as many where 16 are sent at once
    connects: int = 300
    starts: int = 20  # of `true`, in all runs together
    firsts: int = 10  # first connects, in all runs together
    idle: int = 10_000
    idle_seconds: int = 10
    lossy_bytes: int = 100_000_000


QUICK = Amounts(runs=2, seconds=1, redis_requests=30_000, idle_seconds=3, lossy_bytes=30_000_000)


class Setup:
    """Everything that the measures ask for."""

    def __init__(self, amounts, folder, quicwrap):
        self.amounts = amounts
        self.folder = folder
        self.quicwrap = str(pathlib.Path(quicwrap).resolve()) if quicwrap else _built("--bin", "quicwrap")
        self.wrap = [self.quicwrap, "--state-dir", str(folder / "state"), "--"]
        self.wrap_fast = [*self.wrap[:-1], "--mode", "zpoline", "--"]
        self.raw_certificate = folder / "raw_quinn.der"
        self.stunnel_key, self.stunnel_certificate = folder / "stunnel.key", folder / "stunnel.crt"
        self.raw_quinn = None

    def build_raw_quinn(self):
        """To be called before throughput is measured."""
        self.raw_quinn = _built("--bench", "raw_quinn")

    def program(self, name):
        """The path of a program of benches/c, compiled when it is first asked for."""
        path = self.folder / name
        if not path.exists():
            command = [need("cc"), "-O2", "-Wall", "-o", path, BENCHES / "c" / f"{name}.c"]
            output_of(f"compiling {name}.c", command)
        return str(path)


def _built(kind, name):
    """The path of a target of the crate, built as users build it."""
    print(f"building {name}", file=sys.stderr)
    command = [need("cargo"), "build", "--release", "--locked", "--quiet", kind, name]
    command.append("--message-format=json-render-diagnostics")
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=COMPILING)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{' '.join(command)}: not within {COMPILING} s") from None
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command)}: status {done.returncode}, see above")
    for message in map(json.loads, done.stdout.splitlines()):
        if message.get("executable") and message["target"]["name"] == name:
            return message["executable"]
    raise BenchError(f"{' '.join(command)}: it named no executable")
