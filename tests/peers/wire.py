"""Bytes on a wire, written down by somebody else: knows nothing of Modbus.

    wire.py serve tcp|pty       prints `ready PORT` or `ready PATH`; then each line on standard input is answered by one:
        script [[REQUEST, ANSWER], ..]      `ok`: these requests are expected from now on, in this order
        heard                               every request since then; one that was not expected is not answered, nor is
                                            what follows it
    wire.py ask HOST:PORT|PATH  prints `ready -`; then:
        ask [REQUEST, ANSWER]               what came for it: as many bytes as ANSWER has, or fewer after 20 s

Requests and answers are hexadecimal. `TT` in a request stands for any byte, in an answer for the byte that came there.
"""

import json
import os
import select
import socket
import sys
import threading
import time
import tty

PATIENCE = 20  # seconds; only a failing test takes them


class Script:
    def __init__(self):
        self.lock = threading.Lock()
        self.begin([])

    def begin(self, pairs):
        with self.lock:
            self.pairs, self.heard, self.kept = list(pairs), [], b""

    def take(self, data):
        """The answer to what has come so far, if it is the request that is expected."""
        with self.lock:
            self.kept += data
            if not self.pairs or len(self.kept) < len(self.pairs[0][0]) // 2:
                return b""
            request, answer = self.pairs[0]
            came = self.kept.hex().upper()
            if any(wanted not in ("T", found) for wanted, found in zip(request, came)) or len(came) != len(request):
                return b""
            del self.pairs[0]
            self.heard.append(came)
            whole, self.kept = self.kept, b""
            return filled(answer, whole)

    def all(self):
        with self.lock:
            return self.heard + ([self.kept.hex().upper()] if self.kept else [])


def filled(answer, request):
    pairs = [answer[at : at + 2] for at in range(0, len(answer), 2)]
    return bytes(request[at] if pair == "TT" else int(pair, 16) for at, pair in enumerate(pairs))


def serve(script, read, write):
    while data := read():
        if answer := script.take(data):
            write(answer)


def accept(script, listener):
    while True:
        connection, _ = listener.accept()
        serve(script, lambda end=connection: end.recv(512), connection.sendall)


def start(script, medium):
    if medium == "tcp":
        listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=accept, args=(script, listener), daemon=True).start()
        return listener.getsockname()[1]
    master, slave = os.openpty()
    tty.setraw(slave)  # the slave stays open here, so that the line outlives whoever opens and closes it
    ends = (script, lambda: os.read(master, 512), lambda data: os.write(master, data))
    threading.Thread(target=serve, args=ends, daemon=True).start()
    return os.ttyname(slave)


def connect(where):
    if where.startswith("/"):
        line = os.open(where, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(line)
        return line
    host, port = where.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection.detach()


def ask(line, request, answer):
    os.write(line, bytes.fromhex(request.replace("T", "1")))
    end, came = time.monotonic() + PATIENCE, b""
    while len(came) < len(answer) // 2 and select.select([line], [], [], max(0, end - time.monotonic()))[0]:
        if not (data := os.read(line, 512)):
            break
        came += data
    return came.hex().upper()


def main(action, where):
    if action == "serve":
        script = Script()
        print("ready", start(script, where), flush=True)
    else:
        line = connect(where)
        print("ready -", flush=True)
    for text in sys.stdin:
        word, _, rest = text.partition(" ")
        if word == "script":
            script.begin(json.loads(rest))
            print("ok", flush=True)
        elif word == "ask":
            print(ask(line, *json.loads(rest)), flush=True)
        else:
            print(json.dumps(script.all()), flush=True)
    os._exit(0)


main(*sys.argv[1:])
