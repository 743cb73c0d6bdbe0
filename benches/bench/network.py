"""Where a client and a server are: on loopback, or in two network namespaces that are joined by a veth pair."""

import contextlib
import dataclasses
import os
import pathlib
import random
import socket

from .processes import BenchError, need, output_of

LOOPBACK_ADDRESS = "127.0.0.1"


@dataclasses.dataclass
class Place:
    """How to run something at either end, and how the server is reached."""

    name: str
    server: str = LOOPBACK_ADDRESS  # its address
    at_server: list = dataclasses.field(default_factory=list)  # words before a command
    at_client: list = dataclasses.field(default_factory=list)


@contextlib.contextmanager
def loopback():
    yield Place("loopback")


def _rule(device):
    """One packet in a hundred is lost on its way in; not on loopback, which stunnel uses beside the veth pair."""
    return (
        "table inet bench {\nchain input {\ntype filter hook input priority 0\n"
        f'iifname "{device}" numgen random mod 100 < 1 drop\n}}\n}}'
    )


@contextlib.contextmanager
def veth(mtu, loss=False):
    """Two namespaces; they go, with what is in them, when the block is left."""
    if os.geteuid() != 0:
        raise BenchError("network namespaces need root: run the bench as root, or choose others with --only")
    ip = need("ip")
    step = f"veth with MTU {mtu}"
    spaces = {end: f"quicwrap-bench-{os.getpid()}-{mtu}{'-loss' if loss else ''}-{end}" for end in ("client", "server")}
    addresses = {"client": "10.77.0.1", "server": "10.77.0.2"}
    run = lambda *words: output_of(step, [ip, *words])
    with contextlib.ExitStack() as stack:
        for space in spaces.values():
            run("netns", "add", space)
            stack.callback(run, "netns", "del", space)
        peer = ["peer", "name", "server", "netns", spaces["server"]]
        run("-n", spaces["client"], "link", "add", "client", "mtu", mtu, "type", "veth", *peer, "mtu", mtu)
        for end, space in spaces.items():
            inside = [ip, "netns", "exec", space]
            run("-n", space, "address", "add", f"{addresses[end]}/24", "dev", end)
            if loss:
                # As on a wire each packet is lost by itself, and not a batch of 64 KiB that offloading would make.
                run("-n", space, "link", "set", end, "gso_max_segs", "1")
                output_of(step, [*inside, need("nft"), _rule(end)])
            run("-n", space, "link", "set", "lo", "up")
            run("-n", space, "link", "set", end, "up")
            if loss:
                # What quicwrap uses, whatever is the host's default for TCP.
                run("-n", space, "route", "replace", "10.77.0.0/24", "dev", end, "congctl", "cubic")
        yield Place(
            step + (", 1 % loss" if loss else ""),
            addresses["server"],
            [ip, "netns", "exec", spaces["server"]],
            [ip, "netns", "exec", spaces["client"]],
        )


def free_port():
    """A port that is free for TCP and for UDP, outside of the range from which the kernel takes ports by itself."""
    for port in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            with contextlib.suppress(OSError):
                tcp.bind((LOOPBACK_ADDRESS, port))
                udp.bind((LOOPBACK_ADDRESS, port))
                return port
    raise BenchError("no port is free for both TCP and UDP")


def wait_for_port(process, port, protocol):
    """Waits until a socket is bound to `port` where the process is: proc_pid_net(5)."""

    def is_bound():
        for table in (protocol, protocol + "6"):
            with contextlib.suppress(OSError):
                rows = pathlib.Path(f"/proc/{process.pid}/net/{table}").read_text().splitlines()[1:]
                if any(int(row.split()[1].rsplit(":")[-1], 16) == port for row in rows):
                    return True
        return False

    process.wait_until(is_bound, f"a {protocol.upper()} socket on port {port}")
