"""The ways from a client to a server that are compared: native TCP, quicwrap, a stunnel pair, and bare quinn."""

import contextlib
import dataclasses

from .network import LOOPBACK_ADDRESS, free_port, wait_for_port
from .processes import BenchError, Process, children, descendants, need, output_of

# FAST is quicwrap with calls answered in the program.
WAYS = NATIVE, WRAPPED, FAST, STUNNEL, RAW = "native TCP", "quicwrap", "quicwrap, zpoline", "stunnel4", "raw_quinn"


class Server:
    """A program that serves, on a port of its own; started again if it should have ended."""

    def __init__(self, stack, step, command, port, protocol):
        self._how = (stack, step, command, port, protocol)
        self._start()

    def _start(self):
        stack, step, command, port, protocol = self._how
        self.process = stack.enter_context(Process(step, command))
        wait_for_port(self.process, port, protocol)

    def revive(self):
        """So that one failure, which has been told, does not hide what comes after it."""
        if self.process.has_ended():
            self._start()

    @property
    def pid(self):
        return self.process.pid


@dataclasses.dataclass
class Path:
    """One way, ready to be used by a client."""

    way: str
    address: str
    port: int
    client: list  # words before the client's command
    server: Server
    between: list = dataclasses.field(default_factory=list)  # processes beside client and server

    def start(self, step, command):
        """A client of this path, started."""
        self.server.revive()
        return Process(f"{step}, {self.way}", [*self.client, *command])

    def output_of(self, step, command, seconds=0):
        """What a client of this path prints."""
        return self.result(self.start(step, command), seconds)

    def result(self, client, seconds, **meanwhile):
        """What a started client prints; if that fails it may be for the server."""
        with client:
            try:
                return client.result(seconds, **meanwhile)
            except BenchError as error:
                raise BenchError(f"{error}\n  its server {self.server.process.state()}") from None

    def running(self):
        """Pids of what runs before a client does."""
        roots = [self.server.pid, *(process.pid for process in self.between)]
        return roots + descendants(self.server.pid)

    def carriers(self, client):
        """Pids of what carries the bytes, beside the kernel: supervisors, stunnels, the two ends of raw_quinn."""
        if self.way in (WRAPPED, FAST):
            return [pid for front in (self.server.pid, client.pid) for pid in children(front)[:1]]
        if self.way == RAW:
            return [self.server.pid, client.pid]
        return [process.pid for process in self.between]

    def everyone(self, client):
        """Pids of all processes that have to do with it."""
        return [*self.running(), client.pid, *descendants(client.pid)]


@contextlib.contextmanager
def serve(setup, place, step, command, ways=(NATIVE, WRAPPED, STUNNEL)):
    """Starts `command(address, port)`, a list of words, for each way; yields a list of paths."""
    with contextlib.ExitStack() as stack:
        paths = []

        def start(way, words, port, protocol):
            return Server(stack, f"{step}, {way}", [*place.at_server, *words], port, protocol)

        if NATIVE in ways or STUNNEL in ways:
            port = free_port()
            server = start(NATIVE, command(place.server, port), port, "tcp")
            native = Path(NATIVE, place.server, port, place.at_client, server)
        if NATIVE in ways:
            paths.append(native)
        for way, wrap in ((WRAPPED, setup.wrap), (FAST, setup.wrap_fast)):
            if way in ways:
                port = free_port()
                server = start(way, [*wrap, *command(place.server, port)], port, "udp")
                paths.append(Path(way, place.server, port, [*place.at_client, *wrap], server))
        if STUNNEL in ways:
            entry, between = _stunnels(setup, place, stack, step, native.port)
            paths.append(Path(STUNNEL, LOOPBACK_ADDRESS, entry, place.at_client, native.server, between))
        if RAW in ways:
            port = free_port()
            words = [setup.raw_quinn, "server", f"{place.server}:{port}", setup.raw_certificate]
            client = [*place.at_client, setup.raw_quinn, "client"]
            paths.append(Path(RAW, place.server, port, client, start(RAW, words, port, "udp")))
        yield paths


def _stunnels(setup, place, stack, step, target):
    """A pair that carries a port at the client to `target` in TLS; its entry, and the two processes."""
    key, certificate = setup.stunnel_key, setup.stunnel_certificate
    if not key.exists():
        _make_certificate(key, certificate)
    entry, middle = free_port(), free_port()
    common = "foreground = yes\npid =\ndebug = err\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n[bench]\n"
    halves = [
        (
            place.at_server,
            middle,
            f"cert = {certificate}\nkey = {key}\naccept = {place.server}:{middle}\nconnect = {place.server}:{target}\n",
        ),
        (
            place.at_client,
            entry,
            f"client = yes\naccept = {LOOPBACK_ADDRESS}:{entry}\nconnect = {place.server}:{middle}\n"
            f"CAfile = {certificate}\nverifyPeer = yes\n",
        ),
    ]
    processes = []
    for words, port, half in halves:
        config = setup.folder / f"stunnel-{port}.conf"
        config.write_text(common + half)
        process = stack.enter_context(Process(f"{step}, {STUNNEL}", [*words, need("stunnel4"), config]))
        wait_for_port(process, port, "tcp")
        processes.append(process)
    return entry, processes


def _make_certificate(key, certificate):
    """A self-signed certificate of this run's own."""
    how = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    output_of("a certificate for stunnel", [need("openssl"), "req", "-x509", *how, "-keyout", key, "-out", certificate])
