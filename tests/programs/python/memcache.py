"""Sixteen connections to memcached at HOST PORT, each in a thread: pipelined sets, gets of what others have set, a
value of 700 kB, and a shared counter. With a third argument the counter goes on from what it was."""
import hashlib
import os
import socket
import sys
import threading

HOST, PORT = sys.argv[1], int(sys.argv[2])
THREADS, KEYS, COUNTED = 16, 500, 1000
LARGE = os.urandom(350_000).hex().encode()
RUN = os.getpid()


def value(thread, key):
    return hashlib.sha256(f"{thread} {key}".encode()).hexdigest().encode() * (1 + key % 20)


def name(thread, key):
    return f"key-{RUN}-{thread}-{key}".encode()


class Client:
    def __init__(self):
        self.socket = socket.create_connection((HOST, PORT), 60)
        self.file = self.socket.makefile("rb")

    def line(self):
        return self.file.readline().rstrip(b"\r\n")

    def send_set(self, key, data, verb=b"set"):
        self.socket.sendall(b"%s %s 0 0 %d\r\n%s\r\n" % (verb, key, len(data), data))

    def get(self, *keys):
        self.socket.sendall(b"get " + b" ".join(keys) + b"\r\n")
        found = {}
        while (words := self.line().split()) != [b"END"]:
            assert words[0] == b"VALUE", words
            found[words[1]] = self.file.read(int(words[3]) + 2)[:-2]
        return found


def work(thread, stored, failures):
    try:
        client = Client()
        for key in range(KEYS):
            client.send_set(name(thread, key), value(thread, key))
        for key in range(KEYS):
            assert client.line() == b"STORED", key
        client.send_set(b"large-%d-%d" % (RUN, thread), LARGE)
        assert client.line() == b"STORED"
        stored.wait(60)
        other = (thread + 1) % THREADS
        for start in range(0, KEYS, 50):
            keys = range(start, start + 50)
            found = client.get(*(name(other, key) for key in keys))
            assert found == {name(other, key): value(other, key) for key in keys}
        large = b"large-%d-%d" % (RUN, other)
        assert client.get(large) == {large: LARGE}
        client.socket.sendall(b"incr counter 1\r\n" * COUNTED)
        for _ in range(COUNTED):
            assert int(client.line()) > 0
        client.socket.sendall(b"quit\r\n")
        assert client.file.read() == b""
    except BaseException as error:
        failures.append(error)
        stored.abort()
        raise


first = Client()
first.send_set(b"counter", b"0", b"add" if len(sys.argv) > 3 else b"set")
assert first.line() in (b"STORED", b"NOT_STORED")
stored, failures = threading.Barrier(THREADS), []
threads = [threading.Thread(target=work, args=(t, stored, failures)) for t in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failures, failures
counter = int(first.get(b"counter")[b"counter"])
print(f"{THREADS * KEYS} keys by {THREADS} connections, {counter} counted")
