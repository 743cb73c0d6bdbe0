"""Connect to PORT, exchange a word, and print "echoed", or the errno's name if connecting fails (status 1).

A second argument is TCP_SYNCNT: how patient connect is.
"""
import errno
import socket
import sys

client = socket.socket()
if len(sys.argv) > 2:
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, int(sys.argv[2]))
try:
    client.connect(("127.0.0.1", int(sys.argv[1])))
except OSError as error:
    print(errno.errorcode[error.errno])
    sys.exit(1)
client.sendall(b"word")
client.shutdown(socket.SHUT_WR)
answer = b""
while data := client.recv(100):
    answer += data
print("echoed" if answer == b"word" else answer)
