"""Listen on PORT; once the file GO exists accept one client, read to its end and print how much came, and its sum."""
import hashlib
import os
import socket
import sys
import time

listener = socket.socket()
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen()
print("listening")
while not os.path.exists(sys.argv[2]):
    time.sleep(0.01)
connection = listener.accept()[0]
total, digest = 0, hashlib.sha256()
while data := connection.recv(65536):
    total += len(data)
    digest.update(data)
print(total, digest.hexdigest())
