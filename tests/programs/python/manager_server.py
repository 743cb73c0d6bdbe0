"""A manager over TCP at PORT: a queue of tasks, a dictionary of results, a lock and a counting object."""
import queue
import sys
from multiprocessing.managers import BaseManager, DictProxy, AcquirerProxy
import threading

tasks, results, lock = queue.Queue(), {}, threading.Lock()


class Counter:
    def __init__(self):
        self.value = 0

    def add(self, n):
        # Not atomic: the clients hold the lock.
        old = self.value
        self.value = old + n
        return self.value


counter = Counter()


class Manager(BaseManager):
    pass


Manager.register("tasks", callable=lambda: tasks)
Manager.register("results", callable=lambda: results, proxytype=DictProxy)
Manager.register("lock", callable=lambda: lock, proxytype=AcquirerProxy)
Manager.register("counter", callable=lambda: counter)

manager = Manager(("127.0.0.1", int(sys.argv[1])), authkey=b"a secret")
server = manager.get_server()
print("serving", flush=True)
server.serve_forever()
