"""Clients of listener_server.py at PORT, in processes and threads: small and large objects, poll and wait."""
import concurrent.futures
import multiprocessing
import os
import sys
from multiprocessing.connection import Client, wait

CLIENTS, OBJECTS = 8, 100
ADDRESS = ("127.0.0.1", int(sys.argv[1]))


def talk(number):
    with Client(ADDRESS, authkey=b"a secret") as connection:
        connection.send("hello")
        assert not connection.poll(0)
        for n in range(OBJECTS):
            item = [number, n, "x" * n]
            connection.send(item)
            assert connection.poll(60)
            assert connection.recv() == item * 2
        large = os.urandom(2_000_000)
        connection.send(large)
        assert connection.recv_bytes() == large * 2
    return 1


def several():
    """Answers of several connections as they come."""
    connections = []
    for n in range(CLIENTS):
        connections.append(Client(ADDRESS, authkey=b"a secret"))
        connections[n].send("hello")
    for n, connection in enumerate(connections):
        connection.send([n])
    answers, waiting = [], list(connections)
    while waiting:
        for ready in wait(waiting, 60):
            answers.append(ready.recv()[0])
            waiting.remove(ready)
    for connection in connections:
        connection.close()
    assert sorted(answers) == list(range(CLIENTS)), answers


context = multiprocessing.get_context("fork")
with concurrent.futures.ProcessPoolExecutor(4, mp_context=context) as pool:
    done = sum(pool.map(talk, range(CLIENTS)))
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    done += sum(pool.map(talk, range(CLIENTS)))
several()
with Client(ADDRESS, authkey=b"a secret") as connection:
    connection.send("stop")
print(f"{done} talked")
