"""Connect to PORT, write SIZE bytes and vanish without closing anything; print the bytes' sum first."""
import hashlib
import os
import socket
import sys

data = os.urandom(int(sys.argv[2]))
print(len(data), hashlib.sha256(data).hexdigest(), flush=True)
client = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
client.sendall(data)
os._exit(0)
