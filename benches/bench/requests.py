"""Small messages: redis and nginx, their latency and their requests a second."""

import contextlib
import csv
import functools
import re

from . import network
from .processes import BenchError, need
from .ways import FAST, NATIVE, STUNNEL, WRAPPED, serve

WAYS = NATIVE, WRAPPED, FAST, STUNNEL

PAGE_BYTES = 1024
REDIS = ("redis-ping", "redis-get", "redis-get-16")
NGINX = ("ab", "wrk")


@contextlib.contextmanager
def redis(setup, results, wanted):
    def command(address, port):
        options = {"bind": address, "port": port, "save": "", "appendonly": "no", "protected-mode": "no"}
        return [need("redis-server"), *(word for name, value in options.items() for word in (f"--{name}", value))]

    requests = setup.amounts.redis_requests
    measures = {
        "redis-ping": _ping,
        "redis-get": functools.partial(_redis_benchmark, requests, 1),
        "redis-get-16": functools.partial(_redis_benchmark, 5 * requests, 16),
    }
    with network.loopback() as place, serve(setup, place, "redis", command, WAYS) as paths:
        yield from _steps(setup, results, wanted, measures, paths)


@contextlib.contextmanager
def nginx(setup, results, wanted):
    def command(address, port):
        folder = setup.folder / f"nginx-{port}"
        (folder / "html").mkdir(parents=True)
        (folder / "html" / "page").write_text("x" * PAGE_BYTES)
        config = folder / "nginx.conf"
        config.write_text(NGINX_CONFIG.format(folder=folder, address=address, port=port))
        return [need("nginx"), "-e", folder / "error.log", "-p", folder, "-c", config]

    measures = {"ab": _ab, "wrk": _wrk}
    with network.loopback() as place, serve(setup, place, "nginx", command, WAYS) as paths:
        yield from _steps(setup, results, wanted, measures, paths)


# One worker: the machine's other cores are the client's and the supervisors'.
NGINX_CONFIG = """
daemon off;
user root;
worker_processes 1;
pid {folder}/pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/client;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen {address}:{port} backlog=1024; root {folder}/html; }}
}}
"""


def _steps(setup, results, wanted, measures, paths):
    """Warms each path up, and yields the steps of one run."""

    def step(name, measure, path):
        results.note(name, path.way, measure(setup, path))

    measures = {name: measure for name, measure in measures.items() if name in wanted}
    for path in paths:
        next(iter(measures.values()))(setup, path)
    yield [functools.partial(step, name, measure, path) for name, measure in measures.items() for path in paths]


def _ping(setup, path):
    """Microseconds."""
    return float(path.output_of("redis PING", [setup.program("ping"), path.address, path.port, setup.amounts.pings]))


def _redis_benchmark(requests, at_once, setup, path):
    """Requests a second."""
    command = [need("redis-benchmark"), "-h", path.address, "-p", path.port, "-c", 50, "-t", "get", "--csv"]
    rows = csv.reader(path.output_of("redis-benchmark", [*command, "-n", requests, "-P", at_once]).splitlines())
    for row in rows:
        if row and row[0] == "GET":
            return float(row[1])
    raise BenchError(f"redis-benchmark, {path.way}: no line for GET")


def _ab(setup, path):
    """Requests a second, each on a connection of its own."""
    url = f"http://{path.address}:{path.port}/page"
    seconds = setup.amounts.seconds
    # -n behind -t, which sets it too low for native TCP.
    said = path.output_of("ab", [need("ab"), "-q", "-t", seconds, "-n", 200_000, "-c", 16, url], seconds)
    if _number(r"Failed requests:\s+(\d+)", said, "ab", path) or "Non-2xx" in said:
        raise BenchError(f"ab, {path.way}: requests failed: {said}")
    return _number(r"Requests per second:\s+([\d.]+)", said, "ab", path)


def _wrk(setup, path):
    """Requests a second."""
    url = f"http://{path.address}:{path.port}/page"
    seconds = setup.amounts.seconds
    said = path.output_of("wrk", [need("wrk"), "-t", 1, "-c", 64, "-d", f"{seconds}s", url], seconds)
    if "Socket errors" in said or "Non-2xx" in said:
        raise BenchError(f"wrk, {path.way}: requests failed: {said}")
    return _number(r"Requests/sec:\s+([\d.]+)", said, "wrk", path)


def _number(pattern, said, program, path):
    found = re.search(pattern, said)
    if not found:
        raise BenchError(f"{program}, {path.way}: no {pattern!r} in what it printed: {said}")
    return float(found[1])


GROUPS = [(REDIS, redis), (NGINX, nginx)]
