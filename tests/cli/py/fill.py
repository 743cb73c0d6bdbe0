"""Connect to PORT, whose server does not read, and print the name of the congestion controller, and how many bytes the
socket takes before it is full for five seconds."""
import select
import socket
import sys

client = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print(client.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).split(b"\0")[0].decode())
client.setblocking(False)
taken = 0
while select.select([], [client], [], 5)[1]:
    taken += client.send(bytes(1 << 20))
print(taken)
