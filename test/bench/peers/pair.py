"""
The other end of pair.ts: sends every frame back, without a copy.

    python pair.py ipc:///tmp/down ipc:///tmp/up [the server's public key]
"""

import sys

import zmq

down, up, *keys = sys.argv[1:]
context = zmq.Context()
pull, push = context.socket(zmq.PULL), context.socket(zmq.PUSH)
pull.rcvhwm = push.sndhwm = 0
for socket, endpoint in ((pull, down), (push, up)):
    for key in keys:
        socket.curve_serverkey = key.encode()
        socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
    socket.connect(endpoint)
push.send(b"")
while True:
    push.send(pull.recv(copy=False), copy=False)
