"""Connect to PORT; for each number on standard input send so many bytes, read as many, and print "echoed NUMBER".

A line "again" makes one more connection. All stay open until the end of the input.
"""
import socket
import sys
import threading


def connect():
    client = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    clients.append(client)
    print("connected", len(clients))


clients = []
connect()
for line in sys.stdin:
    if line.strip() == "again":
        connect()
        continue
    count, client = int(line), clients[0]
    sender = threading.Thread(target=client.sendall, args=(b"x" * count,))
    sender.start()
    missing = count
    while missing and (data := client.recv(65536)):
        missing -= len(data)
    sender.join()
    print("echoed", count - missing)
