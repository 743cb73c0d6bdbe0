"""The names of the measures, in the order of the report."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Measure:
    title: str
    unit: str


THROUGHPUT = {
    "bulk": Measure("iperf3, 1 stream, loopback", "Gbit/s"),
    "bulk-reverse": Measure("iperf3 -R, loopback", "Gbit/s"),
    "bulk-both": Measure("iperf3 --bidir, loopback, both", "Gbit/s"),
    "bulk-8": Measure("iperf3 -P 8, loopback", "Gbit/s"),
    "bulk-64": Measure("iperf3 -P 64, loopback", "Gbit/s"),
    "veth-1500": Measure("iperf3, 1 stream, veth MTU 1500", "Gbit/s"),
    "veth-9000": Measure("iperf3, 1 stream, veth MTU 9000", "Gbit/s"),
    "loss": Measure("a transfer, veth MTU 1500, 1 % loss", "Gbit/s"),
}
REQUESTS = {
    "redis-ping": Measure("redis PING, 1 client", "µs"),
    "redis-get": Measure("redis-benchmark -c 50, GET", "requests/s"),
    "redis-get-16": Measure("redis-benchmark -c 50 -P 16, GET", "requests/s"),
    "ab": Measure("ab -c 16, no keep-alive, 1 kB", "requests/s"),
    "wrk": Measure("wrk, keep-alive, 64 connections, 1 kB", "requests/s"),
}
CALLS = {
    "connect": Measure("connect() to a known peer", "µs"),
    "connect-name": Measure("getsockname() behind it", "µs"),
    "first-connect": Measure("first connect() of a process", "ms"),
    "trapped-emulated": Measure("getsockname() of a TCP socket", "µs"),
    "trapped-error": Measure("getsockopt(SO_ERROR) of a TCP socket", "µs"),
    "trapped-foreign": Measure("getsockname() of another socket", "µs"),
    "true": Measure("`true`, from fork to exit", "ms"),
}
IDLE = {
    "idle-memory": Measure("idle connection, memory", "kB"),
    "idle-descriptors": Measure("idle connection, descriptors", ""),
    "idle-cpu": Measure("idle connections, processor time in 10 s", "ms"),
}
ALL = {**THROUGHPUT, **REQUESTS, **CALLS, **IDLE}
