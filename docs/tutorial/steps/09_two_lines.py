import socket
import struct
import sys

MESSAGE = b"hola,\nmundo..."
FRAMED = {
    "line": MESSAGE + b"\n",
    "netstring": b"%d:%s," % (len(MESSAGE), MESSAGE),
    "length": struct.pack("!I", len(MESSAGE)) + MESSAGE,
}

framed = FRAMED[sys.argv[1]]
with socket.create_connection(("127.0.0.1", 1234)) as client:
    client.sendall(framed)
    print("sent:    ", framed)
    print("received:", client.recv(1024))
