# reorder.py PORT relay|server|client: a path where the end of a QUIC handshake is overtaken by what follows it.
import select, socket, sys

BYTES = 10_000
# A packet with a long header, and two kinds of those: RFC 9000 section 17.2. The next bit may be anything (RFC 9287).
LONG, INITIAL, HANDSHAKE = 0x80, 0x80, 0xA0
KIND = 0xB0
# Datagrams that overtake the client's handshake packet.
OVERTAKE = 4

port = int(sys.argv[1])
SERVER, RELAY = ("127.0.0.1", port), ("127.0.0.2", port)


# A variable-length integer, and what follows it (RFC 9000 section 16).
def integer(data):
    length = 1 << (data[0] >> 6)
    return int.from_bytes(data[:length]) & (1 << 8 * length - 2) - 1, data[length:]


# Whether there is a handshake packet, perhaps behind Initial packets.
def ends_handshake(data):
    while data and data[0] & KIND == INITIAL:
        data = data[5:]
        for _ in "destination", "source":
            data = data[1 + data[0] :]
        token, data = integer(data)
        length, data = integer(data[token:])
        data = data[length:]
    return bool(data) and data[0] & KIND == HANDSHAKE


def relay():
    sides = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    sides[0].bind(RELAY)
    sides[1].connect(SERVER)
    print("relaying", flush=True)
    client, held, overtaken = None, None, 0
    while True:
        for side in select.select(sides, [], [])[0]:
            data, sender = side.recvfrom(65536)
            if side is sides[1]:
                sides[0].sendto(data, client)
                continue
            if not data:
                continue
            client = sender
            if overtaken == 0 and ends_handshake(data):
                held, overtaken = data, 1
                continue
            sides[1].send(data)
            if held and not data[0] & LONG:
                overtaken += 1
                if overtaken > OVERTAKE:
                    sides[1].send(held)
                    held = None


def server():
    listener = socket.create_server(SERVER)
    print("listening", flush=True)
    connection, _ = listener.accept()
    connection.sendall(b"%d" % len(connection.recv(BYTES, socket.MSG_WAITALL)))
    connection.recv(1)


def client():
    connection = socket.create_connection(RELAY)
    connection.sendall(bytes(BYTES))
    print(connection.recv(16).decode(), flush=True)
    sys.stdin.read()


{"relay": relay, "server": server, "client": client}[sys.argv[2]]()
