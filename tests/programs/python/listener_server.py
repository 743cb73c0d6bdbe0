"""multiprocessing.connection's Listener at PORT: objects are sent back doubled, until a client says stop."""
import sys
import threading
from multiprocessing.connection import Listener, wait


def serve(connection):
    with connection:
        while True:
            try:
                item = connection.recv()
            except EOFError:
                return
            if isinstance(item, bytes):
                connection.send_bytes(item * 2)
            else:
                connection.send(item * 2)


with Listener(("127.0.0.1", int(sys.argv[1])), backlog=16, authkey=b"a secret") as listener:
    print("listening", flush=True)
    while True:
        connection = listener.accept()
        host, port = listener.last_accepted
        assert host == "127.0.0.1" and port > 0, listener.last_accepted
        if not wait([connection], 60):
            raise SystemExit("a client said nothing")
        if (greeting := connection.recv()) == "stop":
            connection.close()
            break
        assert greeting == "hello", greeting
        threading.Thread(target=serve, args=(connection,), daemon=True).start()
