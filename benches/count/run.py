#!/usr/bin/env python3
"""Counts the instructions that a supervisor spends on a trapped call, a megabyte and a short connection, and compares
them with the figures in figures.toml: more than 10 % growth fails. Unlike times, they are the same on a slow machine,
a fast one and a busy one.

The supervisor is the real one, wrapped round work.c, under valgrind's callgrind. Each figure is the difference between
two runs of different size, so that start and end drop out, divided by the difference in size; the median of a few
rounds. callgrind counts what happens outside the kernel; system calls it counts as one each.

What could differ between machines, and why it does not: all runs on one processor; valgrind shows the program a
processor of its own (Haswell, if there is AVX2), so the C library and the cryptography choose the same code anywhere;
the loopback's MTU is fixed; kernel buffers are forced to what quicwrap asks for (as root: net.core.rmem_max limits them
otherwise). Other versions of rustc or of a dependency do change figures: renew them then.

Needs: a Rust toolchain, a C compiler, valgrind (apt-get install gcc valgrind).
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib

sys.dont_write_bytecode = True
import callgrind  # noqa: E402, beside this file

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FIGURES = HERE / "figures.toml"
LIMIT = 0.10  # growth that fails
PATIENCE = 120  # seconds that one program may take; the longest takes 7 on two slow cores
HEAD = """\
# What a supervisor spends, by `make count`, which fails on more than 10 % growth. Instructions outside the kernel, and
# system calls; of the system calls per megabyte none are kept, since they depend on how the processes take turns.
# To renew, after a change that is meant to cost or to save, or a new compiler: make count UPDATE=1
"""

# From this many bytes on glibc copies with `rep movsb`, of which callgrind counts every byte: an instruction a byte,
# where cryptography takes 2.3. So copies of bulk data weigh about as they cost. It is glibc's own threshold for the
# processor that valgrind shows, and is fixed lest another release of glibc choose another.
ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.cpu.x86_rep_movsb_threshold=8192"}


class CountError(Exception):
    """Something could not be counted."""


@dataclasses.dataclass(frozen=True)
class Figure:
    """One figure: the run with more of it, the run with less, and how much more."""

    name: str
    what: str
    more: tuple
    less: tuple
    units: int
    count_calls: bool = True


# Sizes: large enough that what differs from run to run (timers, turns of the threads) is about one per cent.
CALLS, CALLS_OWN, CALLS_OTHER = ("calls", 500, 500), ("calls", 4500, 500), ("calls", 500, 4500)
SHORT, SHORT_MORE = ("connect", 50, 0), ("connect", 250, 0)
BULK, BULK_MORE = ("connect", 1, 16), ("connect", 1, 48)
FIGURES_KEPT = (
    Figure("call_own", "getsockname of a TCP socket", (*CALLS_OWN, "client"), (*CALLS, "client"), 4000),
    Figure("call_other", "getsockname of another socket", (*CALLS_OTHER, "client"), (*CALLS, "client"), 4000),
    Figure("short_client", "short connection, client", (*SHORT_MORE, "client"), (*SHORT, "client"), 200),
    Figure("short_server", "short connection, server", (*SHORT_MORE, "server"), (*SHORT, "server"), 200),
    Figure("megabyte_sent", "megabyte sent", (*BULK_MORE, "client"), (*BULK, "client"), 32, False),
    Figure("megabyte_received", "megabyte received", (*BULK_MORE, "server"), (*BULK, "server"), 32, False),
)


# --- running ---------------------------------------------------------------------------------------------------


def need(program, package):
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin")
    if path is None:
        raise CountError(f"{program} is not installed: apt-get install {package}")
    return path


def check_processor():
    if "avx2" not in pathlib.Path("/proc/cpuinfo").read_text().split():
        raise CountError("this processor has no AVX2: valgrind then shows another than for the figures that are kept")


def build():
    """Builds quicwrap as users do, and returns its path."""
    cargo = os.environ.get("CARGO", "cargo")
    subprocess.run([cargo, "build", "--release", "--locked", "--quiet"], cwd=ROOT, check=True)
    metadata = [cargo, "metadata", "--format-version=1", "--no-deps"]
    described = subprocess.run(metadata, cwd=ROOT, check=True, capture_output=True).stdout
    return str(pathlib.Path(json.loads(described)["target_directory"]) / "release" / "quicwrap")


class Bench:
    """Compiled programs and the way to run them."""

    def __init__(self, quicwrap, folder):
        self.quicwrap, self.folder, self.runs = quicwrap, folder, 0
        self.valgrind = [need("valgrind", "valgrind"), "-q", "--tool=callgrind", "--collect-systime=yes"]
        self.work, self.outside = str(folder / "work"), str(folder / "outside.so")
        compiler = [need("cc", "gcc"), "-O2"]
        subprocess.run([*compiler, "-o", self.work, str(HERE / "work.c")], check=True)
        shim = [*compiler, "-fPIC", "-shared", "-o", self.outside, str(HERE / "outside.c")]
        subprocess.run(shim, check=True)

    def command(self, role, arguments, counts):
        # An identity for each, made by the first run; no configuration of the user's; as many threads everywhere.
        own = ["--state-dir", str(self.folder / role), "--config", "/dev/null", "--threads", "1"]
        wrap = [self.quicwrap, *own, "--log", "error", "--"]
        under = [] if counts is None else [*self.valgrind, f"--callgrind-out-file={counts}/%p"]
        return [*under, *wrap, self.work, *map(str, arguments)]

    @contextlib.contextmanager
    def started(self, role, arguments, counts=None, **options):
        """A wrapped program; ended by its pid if it has not ended when the block is left."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("QUICWRAP_")}
        own |= ENVIRONMENT | {"LD_PRELOAD": self.outside} if counts is not None else {}
        command = self.command(role, arguments, counts)
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=own, **options)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def run(self, what, counted=True):
        """Runs one size of work, and returns {role: {function: costs}}."""
        self.runs += 1
        places = {role: self.folder / f"run{self.runs}-{role}" for role in ("client", "server")}
        for place in places.values():
            place.mkdir()
        counts = places if counted else dict.fromkeys(places)
        with contextlib.ExitStack() as stack:
            start = lambda *arguments, **options: stack.enter_context(self.started(*arguments, **options))
            if what[0] == "calls":
                processes = {"client": start("client", what, counts["client"])}
            else:
                command, connections, megabytes = what
                server = start("server", ("serve", connections), counts["server"], stdout=subprocess.PIPE)
                port = server.stdout.readline().strip()
                if not port:
                    raise CountError("the server has not started; it says why above")
                arguments = (command, int(port), connections, megabytes)
                processes = {"client": start("client", arguments, counts["client"]), "server": server}
            for role, process in processes.items():
                ended(role, process)
        if not counted:
            return {}
        return {role: supervisor_costs(counts[role], process.pid) for role, process in processes.items()}


def ended(role, process):
    try:
        status = process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        raise CountError(f"the {role} did not end within {PATIENCE} s") from None
    if status != 0:
        raise CountError(f"the {role} has ended with status {status}; it says why above")


def supervisor_costs(place, front):
    """Each process under valgrind writes a file, named by its pid; the program itself has left valgrind. The
    supervisor ends a moment after the front."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        files = [file for file in place.iterdir() if file.name != str(front)]
        texts = [file.read_text() for file in files]
        if len(texts) == 1 and "\ntotals:" in texts[0]:
            return callgrind.costs(texts[0])
        time.sleep(0.05)
    names = ", ".join(sorted(file.name for file in place.iterdir()))
    raise CountError(f"callgrind has not written a whole file for front ({front}) and supervisor each, but: {names}")


# --- figures ---------------------------------------------------------------------------------------------------


def count(bench, rounds):
    """{(work, role): [{function: costs} for each round]}."""
    works = list(dict.fromkeys(side[:3] for figure in FIGURES_KEPT for side in (figure.less, figure.more)))
    # Identities are made and pinned once; and what does not work natively is not worth counting.
    bench.run(SHORT, counted=False)
    found = {}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        for work in works:
            for role, costs in bench.run(work).items():
                found.setdefault((*work, role), []).append(costs)
    return found


def per_unit(figure, found):
    """For each round (instructions, system calls) of one unit."""
    total = lambda costs, column: sum(cost[column] for cost in costs.values())
    rounds = zip(found[figure.less], found[figure.more])
    return [tuple((total(more, c) - total(less, c)) / figure.units for c in (0, 1)) for less, more in rounds]


def measured(found):
    """{name: {"instructions": [...], "system_calls": [...]}}, a value for each round."""
    result = {}
    for figure in FIGURES_KEPT:
        instructions, calls = zip(*per_unit(figure, found))
        result[figure.name] = {"instructions": instructions} | ({"system_calls": calls} if figure.count_calls else {})
    return result


def compare(kept, now):
    """Prints a table; returns what has grown beyond the limit, and what has fallen below it."""
    grown, fallen = [], []
    print(f"{'':31}{'':14}{'kept':>12}{'now':>12}{'':>9}{'lowest':>12}{'highest':>12}")
    for figure in FIGURES_KEPT:
        for kind, values in now[figure.name].items():
            new, old = statistics.median(values), kept.get(figure.name, {}).get(kind)
            line = f"{figure.what:31}{kind.replace('_', ' '):14}"
            spread = f"{min(values):12,.1f}{max(values):12,.1f}"
            if old is None:
                print(f"{line}{'-':>12}{new:12,.1f}{'new':>9}{spread}")
                grown.append(f"{figure.what}: {kind.replace('_', ' ')} are not in {FIGURES.name}")
                continue
            growth = new / old - 1
            print(f"{line}{old:12,.1f}{new:12,.1f}{growth:+9.1%}{spread}")
            said = f"{figure.what}: {kind.replace('_', ' ')} were {old:,.1f}, are {new:,.1f} ({growth:+.1%})"
            if growth > LIMIT:
                grown.append(said)
            elif growth < -LIMIT:
                fallen.append(said)
    return grown, fallen


def write_figures(now):
    compiler = subprocess.run([need("rustc", "rustc, or see rustup.rs"), "--version"], check=True, capture_output=True)
    text = f"{HEAD}# Counted with {compiler.stdout.decode().strip()}.\n"
    for figure in FIGURES_KEPT:
        text += f"\n[{figure.name}] # {figure.what}\n"
        for kind, values in now[figure.name].items():
            text += f"{kind} = {statistics.median(values):.1f}\n"
    FIGURES.write_text(text)


def profile(found, lines):
    """What functions cost themselves, per unit, in the round with the median; and which system calls are made."""
    for figure in FIGURES_KEPT:
        rounds = per_unit(figure, found)
        instructions, calls, middle = sorted((*cost, index) for index, cost in enumerate(rounds))[len(rounds) // 2]
        less, more = found[figure.less][middle], found[figure.more][middle]
        unit = lambda name, column: (more[name][column] - less.get(name, (0, 0))[column]) / figure.units
        print(f"\n{figure.what}: {instructions:,.1f} instructions, {calls:,.1f} system calls")
        for name in sorted(more, key=lambda name: -unit(name, 0))[:lines]:
            print(f"{unit(name, 0):14,.1f} {unit(name, 0) / instructions:6.1%}  {name}")
        made = [name for name in sorted(more, key=lambda name: -unit(name, 1)) if unit(name, 1) >= 0.05]
        print("system calls: " + ", ".join(f"{name} {unit(name, 1):.1f}" for name in made))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--update", action="store_true", help="write the figures instead of comparing them")
    parser.add_argument("--rounds", type=int, default=3, help="rounds to take the median of (default 3)")
    parser.add_argument("--profile", type=int, default=0, metavar="N", help="print the N dearest functions of each")
    parser.add_argument("--keep", metavar="FOLDER", help="keep callgrind's files there, for callgrind_annotate")
    parser.add_argument("--quicwrap", help="the binary to count (default: built here, --release)")
    arguments = parser.parse_args()
    # An end that is asked for ends the programs too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        check_processor()
        with tempfile.TemporaryDirectory(prefix="quicwrap-count-") as folder:
            bench = Bench(arguments.quicwrap or build(), pathlib.Path(folder))
            # On one processor the processes take turns in the same way whatever else runs; on several, what one finds
            # when it wakes depends on who else was kept waiting: 10 % of a short connection, on a busy machine.
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
            found = count(bench, arguments.rounds)
            if arguments.keep:
                shutil.copytree(folder, arguments.keep, ignore=shutil.ignore_patterns("client", "server"))
        now = measured(found)
        kept = tomllib.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    except (CountError, OSError, subprocess.CalledProcessError, tomllib.TOMLDecodeError) as error:
        print(f"count: {error}", file=sys.stderr)
        return 1
    grown, fallen = compare(kept, now)
    if arguments.profile:
        profile(found, arguments.profile)
    if arguments.update:
        write_figures(now)
        return 0
    for line in fallen:
        print(f"count: {line}; keep it so: make count UPDATE=1", file=sys.stderr)
    for line in grown:
        print(f"count: {line}", file=sys.stderr)
    if grown:
        print("count: if that is meant: make count UPDATE=1, and say why in the commit", file=sys.stderr)
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
