"""Work through a manager at PORT: tasks are taken by four processes and by threads, each with connections of its own."""
import concurrent.futures
import hashlib
import multiprocessing
import queue
import sys
from multiprocessing.managers import AcquirerProxy, BaseManager, DictProxy

TASKS, WORKERS, THREADS = 60, 4, 4


class Manager(BaseManager):
    pass


Manager.register("tasks")
Manager.register("results", proxytype=DictProxy)
Manager.register("lock", proxytype=AcquirerProxy)
Manager.register("counter")


def connected(key=b"a secret"):
    manager = Manager(("127.0.0.1", int(sys.argv[1])), authkey=key)
    manager.connect()
    return manager


def answer(data):
    return hashlib.sha256(data).hexdigest()


def work(_):
    manager = connected()
    tasks, results, lock, counter = manager.tasks(), manager.results(), manager.lock(), manager.counter()
    done = 0
    while True:
        try:
            number, data = tasks.get_nowait()
        except queue.Empty:
            return done
        results[number] = answer(data)
        done += 1
        with lock:
            counter.add(1)


def run():
    manager = connected()
    tasks = manager.tasks()
    data = [bytes([n]) * (n * 5000) for n in range(TASKS)]
    for number, item in enumerate(data):
        tasks.put((number, item))
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(WORKERS, mp_context=context) as pool:
        first = sum(pool.map(work, range(WORKERS)))
    assert first == TASKS, first
    results = manager.results().copy()
    assert results == {n: answer(item) for n, item in enumerate(data)}
    for number, item in enumerate(data):
        tasks.put((TASKS + number, item))
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        second = sum(pool.map(work, range(THREADS)))
    assert second == TASKS, second
    count = manager.counter().add(0)
    try:
        connected(b"another").tasks()
        raise SystemExit("a wrong key was accepted")
    except multiprocessing.AuthenticationError:
        pass
    print(f"{count} done")


run()
