#!/usr/bin/env python3
"""Measures wrapped programs against native TCP and against a stunnel pair, on loopback, in one run.

Prints a table, and writes it into docs/performance.md between its two markers. The ways are interleaved (A B C A B
C ...), so that a change in the machine's speed meets them all; the figures are medians, and the targets are ratios
within the run. It never fails because something is slow.

Needs: a Rust toolchain, a C compiler, iperf3 and stunnel4 (apt-get install iperf3 stunnel4), openssl.
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- make bench: begin -->", "<!-- make bench: end -->"
PATIENCE = 30  # seconds that any one step may take beside its own duration
ADDRESS = "127.0.0.1"
NATIVE, WRAPPED, STUNNEL = "native TCP", "quicwrap", "stunnel4"


class BenchError(Exception):
    """Something could not be measured."""


# --- processes -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def background(command, folder):
    """A process that is ended, by its pid, when the block is left."""
    with open(folder / "background.log", "ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def output_of(command, seconds=0):
    """What a command prints; an error that names it when it fails."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds + PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{command[0]} did not end within {error.timeout} s") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise BenchError(f"{' '.join(map(str, command))}: status {done.returncode}: {said}")
    return done.stdout.decode()


def need(program, package):
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin")
    if path is None:
        raise BenchError(f"{program} is not installed: apt-get install {package}")
    return path


def free_port():
    """A port that is free for TCP and for UDP."""
    for _ in range(100):
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind((ADDRESS, 0))
            port = tcp.getsockname()[1]
            with contextlib.suppress(OSError):
                udp.bind((ADDRESS, port))
                return port
    raise BenchError("no port is free for both TCP and UDP")


def wait_for_port(port, tables):
    """Waits until a socket is bound to `port`: proc_pid_net(5)."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for table in tables:
            rows = pathlib.Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]
            if any(int(row.split()[1].rsplit(":")[-1], 16) == port for row in rows):
                return
        time.sleep(0.02)
    raise BenchError(f"nothing listens on port {port} ({', '.join(tables)})")


# --- the three ways --------------------------------------------------------------------------------------------


class Setup:
    """Programs, paths and servers that the measurements use."""

    def __init__(self, arguments, folder):
        self.folder = folder
        self.seconds = arguments.seconds
        self.iperf3 = need("iperf3", "iperf3")
        self.stunnel = need("stunnel4", "stunnel4")
        self.quicwrap = arguments.quicwrap or build()
        self.wrap = [self.quicwrap, "--state-dir", str(folder / "state"), "--"]
        self.trap = str(folder / "trap")
        output_of([need("cc", "gcc"), "-O2", "-o", self.trap, str(ROOT / "benches" / "trap.c")])

    @contextlib.contextmanager
    def servers(self):
        """iperf3 servers for each way; yields the port to connect to, by way."""
        ports = {way: free_port() for way in (NATIVE, WRAPPED, STUNNEL)}
        serve = [self.iperf3, "-s", "-4", "-p"]
        with contextlib.ExitStack() as stack:
            start = lambda command: stack.enter_context(background(command, self.folder))
            start(serve + [str(ports[NATIVE])])
            start(self.wrap + serve + [str(ports[WRAPPED])])
            for config in self.stunnel_pair(ports[STUNNEL], ports[NATIVE]):
                start([self.stunnel, str(config)])
            wait_for_port(ports[NATIVE], ["tcp", "tcp6"])
            wait_for_port(ports[STUNNEL], ["tcp"])
            wait_for_port(ports[WRAPPED], ["udp", "udp6"])
            yield ports

    def stunnel_pair(self, entry, target):
        """Configurations of a pair that carries `entry` to `target` in TLS."""
        certificate = self.folder / "stunnel.pem"
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        output_of(
            [need("openssl", "openssl"), "req", "-x509", *key, "-subj", "/CN=localhost"]
            + ["-keyout", str(certificate), "-out", str(self.folder / "stunnel.crt")]
        )
        with open(certificate, "a") as both:
            both.write((self.folder / "stunnel.crt").read_text())
        middle = free_port()
        common = "foreground = yes\npid =\ndebug = err\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n[bench]\n"
        halves = {
            "server": f"cert = {certificate}\naccept = {ADDRESS}:{middle}\nconnect = {ADDRESS}:{target}\n",
            "client": f"client = yes\naccept = {ADDRESS}:{entry}\nconnect = {ADDRESS}:{middle}\n"
            f"CAfile = {self.folder / 'stunnel.crt'}\nverifyPeer = yes\n",
        }
        for name, half in halves.items():
            config = self.folder / f"stunnel-{name}.conf"
            config.write_text(common + half)
            yield config

    def throughput(self, way, port, streams):
        """Gbit/s that arrived, by iperf3."""
        command = [self.iperf3, "-c", ADDRESS, "-p", str(port), "-P", str(streams), "-t", str(self.seconds), "-J"]
        report = json.loads(output_of((self.wrap if way == WRAPPED else []) + command, self.seconds))
        return report["end"]["sum_received"]["bits_per_second"] / 1e9

    def trapped(self, way):
        """Microseconds of getsockname: on a TCP socket, on another."""
        words = output_of((self.wrap if way == WRAPPED else []) + [self.trap]).split()
        return [float(word) / 1000 for word in words]

    def start_up(self, way):
        """Milliseconds of a program that does nothing."""
        command = (self.wrap if way == WRAPPED else []) + [need("true", "coreutils")]
        begin = time.perf_counter()
        output_of(command)
        return (time.perf_counter() - begin) * 1000


def build():
    """Builds quicwrap as users do, and returns its path."""
    cargo = need("cargo", "cargo, or see rustup.rs")
    subprocess.run([cargo, "build", "--release", "--quiet"], cwd=ROOT, check=True)
    metadata = subprocess.run(
        [cargo, "metadata", "--format-version=1", "--no-deps"], cwd=ROOT, check=True, capture_output=True
    )
    return str(pathlib.Path(json.loads(metadata.stdout)["target_directory"]) / "release" / "quicwrap")


# --- measuring -------------------------------------------------------------------------------------------------


def measure(setup, runs):
    """All samples: {(what, way): [figure, ...]}."""
    samples = {}

    def note(what, way, figure):
        samples.setdefault((what, way), []).append(figure)

    with setup.servers() as ports:
        for way in ports:  # identities are made and pinned, caches warm
            setup.throughput(way, ports[way], 1)
        for run in range(runs):
            print(f"run {run + 1} of {runs}", file=sys.stderr)
            for streams, what in ((1, "1 stream"), (8, "8 streams")):
                for way in (NATIVE, WRAPPED, STUNNEL):
                    note(what, way, setup.throughput(way, ports[way], streams))
    for _ in range(runs):
        for way in (NATIVE, WRAPPED):
            emulated, foreign = setup.trapped(way)
            note("getsockname", way, emulated)
            note("foreign", way, foreign)
    for _ in range(4 * runs):
        for way in (NATIVE, WRAPPED):
            note("true", way, setup.start_up(way))
    return samples


def table(samples):
    """The report, in Markdown."""
    middle = {key: statistics.median(figures) for key, figures in samples.items()}
    titles = {
        "1 stream": ("iperf3, 1 stream", "Gbit/s"),
        "8 streams": ("iperf3, 8 streams", "Gbit/s"),
        "getsockname": ("getsockname of a TCP socket", "µs"),
        "foreign": ("getsockname of another socket", "µs"),
        "true": ("`true`, from start to end", "ms"),
    }
    lines = ["| what | way | median | min | max | unit | runs | ÷ native |", "|---|---|--:|--:|--:|---|--:|--:|"]
    for (what, way), figures in samples.items():
        title, unit = titles[what]
        ratio = middle[what, way] / middle[what, NATIVE]
        row = [title, way, *(f"{figure:.2f}" for figure in (middle[what, way], min(figures), max(figures)))]
        lines.append(f"| {' | '.join(row)} | {unit} | {len(figures)} | {ratio:.2f} |")
    lines += ["", "| target | wanted | measured | |", "|---|--:|--:|---|"]
    for name, wanted, measured, reached in targets(middle):
        lines.append(f"| {name} | {wanted} | {measured:.2f} | {'reached' if reached else 'NOT reached'} |")
    return "\n".join(lines)


def targets(middle):
    """(name, wanted, measured, reached) of each target."""
    one = {way: middle["1 stream", way] for way in (NATIVE, WRAPPED, STUNNEL)}
    for name, figure, least in (
        ("1 stream, quicwrap ÷ native TCP", one[WRAPPED] / one[NATIVE], 0.6),
        ("1 stream, quicwrap ÷ stunnel4 pair", one[WRAPPED] / one[STUNNEL], 3),
    ):
        yield name, f"≥ {least}", figure, figure >= least
    for name, figure, most in (
        ("emulated getsockname, µs", middle["getsockname", WRAPPED], 15),
        ("`quicwrap -- true`, ms", middle["true", WRAPPED], 20),
    ):
        yield name, f"≤ {most}", figure, figure <= most


def machine():
    """One line that describes where this was measured."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    # The release's first three numbers: what follows is the builder's own.
    release = platform.release().split("-")[0]
    return f"{model}, {os.cpu_count()} cores, Linux {release}, loopback"


def write_page(report, command):
    """Puts the report between the markers of docs/performance.md; the rest of the page is by hand."""
    text = PAGE.read_text() if PAGE.exists() else f"# Performance\n\n{BEGIN}\n{END}\n"
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise BenchError(f"{PAGE} needs the markers '{BEGIN}' and '{END}' once each")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    day = datetime.date.today().isoformat()
    about = f"Measured on {day} with `{command}`: {machine()}."
    PAGE.write_text(f"{head}{BEGIN}\n{about}\n\n{report}\n{END}{tail}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="interleaved runs (default 5)")
    parser.add_argument("--seconds", type=int, default=2, help="length of one iperf3 run (default 2)")
    parser.add_argument("--quicwrap", help="the binary to measure (default: built here, --release)")
    parser.add_argument("--no-page", action="store_true", help="leave docs/performance.md alone")
    arguments = parser.parse_args()
    # An end that is asked for ends the servers too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        with tempfile.TemporaryDirectory(prefix="quicwrap-bench-") as folder:
            samples = measure(Setup(arguments, pathlib.Path(folder)), arguments.runs)
        report = table(samples)
        print(f"{machine()}\n\n{report}")
        if not arguments.no_page:
            default = (arguments.runs, arguments.seconds, arguments.quicwrap) == (5, 2, None)
            custom = f"benches/run.py --runs {arguments.runs} --seconds {arguments.seconds}"
            custom += " --quicwrap ..." if arguments.quicwrap else ""
            write_page(report, "make bench" if default else custom)
    except (BenchError, OSError, subprocess.CalledProcessError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
