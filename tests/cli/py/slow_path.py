# slow_path.py PORT server|ahead|words: uploads over a slow path, and a server that tells how much has arrived of them.
import os, socket, struct, sys, threading, time

UPLOADS = 20
# More than 20 streams would be allowed to have in flight or unread, all together.
ARRIVES = 100 << 20
AHEAD = 12 << 20

port = int(sys.argv[1])
arrived = 0
lock = threading.Lock()


def serve(connection):
    global arrived
    kind = connection.recv(1)
    if kind == b"s":
        time.sleep(3600)
    is_upload = kind == b"u"
    while True:
        data = connection.recv(1 << 18 if is_upload else 1)
        if not data:
            return
        if is_upload:
            with lock:
                arrived += len(data)
        else:
            connection.sendall(struct.pack("!Q", arrived))


def server():
    listener = socket.create_server(("127.0.0.1", port))
    print("listening", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def connect(kind):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(kind)
    return connection


def ask(words):
    words.sendall(b"?")
    return struct.unpack("!Q", words.recv(8, socket.MSG_WAITALL))[0]


# How far sendall(2) is ahead of what has arrived.
def ahead():
    words, upload = connect(b"w"), connect(b"u")
    upload.sendall(bytes(AHEAD))
    print(AHEAD - ask(words), flush=True)
    os._exit(0)


def upload(kind):
    connection = connect(kind)
    while True:
        connection.sendall(bytes(1 << 16))


# The most that has arrived of the uploads between two answers, each on a new connection behind one on an old. Of two more
# uploads nothing is read.
def words():
    for kind in [b"u"] * UPLOADS + [b"s"] * 2:
        threading.Thread(target=upload, args=(kind,), daemon=True).start()
    words = connect(b"w")
    most = last = 0
    while last < ARRIVES:
        ask(words)
        with connect(b"w") as new:
            now = ask(new)
        most, last = max(most, now - last), now
    print(most, flush=True)
    os._exit(0)


{"server": server, "ahead": ahead, "words": words}[sys.argv[2]]()
