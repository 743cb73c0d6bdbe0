# reorder.py PORT relay|server|client: a path where the end of a QUIC handshake is overtaken by what follows it, both ways.
import select, socket, sys

BYTES = 10_000
# A packet with a long header, and two kinds of those: RFC 9000 section 17.2. The next bit may be anything (RFC 9287).
LONG, INITIAL, HANDSHAKE = 0x80, 0x80, 0xA0
KIND = 0xB0
# Datagrams of the client's that overtake its handshake packet.
OVERTAKE = 4

port = int(sys.argv[1])
SERVER, RELAY = ("127.0.0.1", port), ("127.0.0.2", port)


# A variable-length integer, and what follows it (RFC 9000 section 16).
def integer(data):
    length = 1 << (data[0] >> 6)
    return int.from_bytes(data[:length], "big") & (1 << 8 * length - 2) - 1, data[length:]


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


# One direction: the first datagram with a handshake packet waits until so many have overtaken it.
class Direction:
    def __init__(self, name, overtake):
        self.name, self.left, self.held = name, overtake, None

    def passes(self, data):
        if self.held is None and ends_handshake(data):
            self.held = data
            return []
        if self.held and self.left and not data[0] & LONG:
            self.left -= 1
            if self.left == 0:
                print("overtaken:", self.name, flush=True)
                return [data, self.held]
        return [data]


def relay():
    client, server = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    client.bind(RELAY)
    server.connect(SERVER)
    there, back = Direction("client", OVERTAKE), Direction("server", 1)
    print("relaying", flush=True)
    address = None
    while True:
        for side in select.select([client, server], [], [])[0]:
            data, sender = side.recvfrom(65536)
            if side is server:
                for each in back.passes(data):
                    client.sendto(each, address)
            elif data:
                address = sender
                for each in there.passes(data):
                    server.send(each)


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
