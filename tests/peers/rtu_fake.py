"""A Modbus bus written byte by byte, with units that misbehave when told to.

    rtu_fake.py [rtu|ascii] [pty|tcp]

Prints `ready PATH` of a pty, or `ready PORT` of a serial server: one that passes bytes on as they come, so that an
answer that is late goes to whoever is connected then. Every place says its own address: holding n = n, input n = n ^ 0xFFFF, coil n
is on when n % 3 == 0, discrete n when n % 5 == 0. Writes are confirmed and kept.

Lines on standard input, each answered by `ok` or what it asks for:

    mode UNIT ok                    answers (units begin so)
    mode UNIT silent                does not
    mode UNIT late SHARE FROM TO    lets this share of its answers wait so many seconds
    mode UNIT short | long          a register (or byte of bits) too few or too many, CRC good
    mode UNIT cut                   the end of the answer is missing
    mode UNIT echo                  confirms writes for the next place
    mode UNIT hears                 on a line that hears itself: the request comes back before the answer (RTU)
    mode UNIT garbage               noise before and after the answer
    mode UNIT crc                   a CRC or LRC that is wrong
    mode UNIT paced BAUD            takes the time of such a line (8N1) for the request, the silences and the answer
    mode UNIT drip                  one byte at a time
    mode UNIT refuse CODE           an exception
    mode UNIT babble SECONDS        noise without end instead of an answer
    stats                           `REQUESTS LATE SHORTEST_GAP` (s from an answer to the next request)
    hangup                          closes the line and ends

Answers go out in the order of the requests, one after the other, as a real unit's do.
"""

import os
import random
import select
import socket
import sys
import threading
import time
import tty

random.seed(7)
ASCII = "ascii" in sys.argv
modes = {}
written = {}
requests = late = 0
gap = 9.0


def crc(data):
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return bytes([value & 0xFF, value >> 8])


def lrc(data):
    return bytes([-sum(data) & 0xFF])


def place(unit, function, n):
    default = {1: n % 3 == 0, 2: n % 5 == 0, 3: n & 0xFFFF, 4: (n ^ 0xFFFF) & 0xFFFF}[function]
    return int(written.get((unit, function, n), default))


def body(frame, mode):
    """Unit, function and data of the answer."""
    unit, function = frame[0], frame[1]
    start, second = int.from_bytes(frame[2:4], "big"), int.from_bytes(frame[4:6], "big")
    if mode[0] == "refuse":
        return bytes([unit, function | 0x80, int(mode[1])])
    extra = {"short": -1, "long": 1}.get(mode[0], 0)
    if function in (1, 2):
        count = (second + 7) // 8 + extra
        data = bytearray(count)
        for n in range(min(second, 8 * count)):
            data[n // 8] |= place(unit, function, start + n) << n % 8
        return bytes([unit, function, count]) + data
    if function in (3, 4):
        data = b"".join(place(unit, function, start + n).to_bytes(2, "big") for n in range(second + extra))
        return bytes([unit, function, len(data)]) + data
    if function == 5:
        written[unit, 1, start] = second == 0xFF00
    elif function == 6:
        written[unit, 3, start] = second
    elif function == 16:
        for n in range(second):
            written[unit, 3, start + n] = int.from_bytes(frame[7 + 2 * n : 9 + 2 * n], "big")
    confirmed = start + 1 if mode[0] == "echo" else start
    return bytes([unit, function]) + confirmed.to_bytes(2, "big") + frame[4:6]


def answer(line, frame):
    global late
    mode = modes.get(frame[0], ["ok"])
    if mode[0] == "silent":
        return
    if mode[0] == "babble":
        end = time.monotonic() + float(mode[1])
        while time.monotonic() < end:
            if select.select([], [line.out()], [], 0.05)[1]:
                line.write(random.randbytes(200))
            time.sleep(0.001)
        return
    if mode[0] == "late" and random.random() < float(mode[1]):
        late += 1
        time.sleep(random.uniform(float(mode[2]), float(mode[3])))
    if mode[0] == "hears":
        line.write(frame)
    data = body(frame, mode)
    check = lrc(data) if ASCII else crc(data)
    if mode[0] == "crc":
        check = check[:-1] + bytes([check[-1] ^ 0x10])
    data += check
    if mode[0] == "cut":
        data = data[:-3]
    if ASCII:
        data = b":" + data.hex().upper().encode() + b"\r\n"
    if mode[0] == "garbage":
        data = bytes([0, frame[0], 0xFF, 3, 250]) + data + b"\x55\xaa\x03"
    if mode[0] == "paced":
        character = 10 / int(mode[1])
        end = time.monotonic() + character * (17 if ASCII else 8 + 3.5)
        for n in range(0, len(data), 16):
            part = data[n : n + 16]
            end += character * len(part)
            time.sleep(max(0, end - time.monotonic()))
            line.write(part)
    elif mode[0] == "drip":
        for byte in data:
            line.write(bytes([byte]))
            time.sleep(0.0005)
    else:
        line.write(data)


def serve(line):
    global requests, gap
    kept = b""
    answered = None
    while True:
        kept += line.read()
        if answered is not None:
            gap, answered = min(gap, time.monotonic() - answered), None
        while True:
            frame, kept = (ascii_frame if ASCII else rtu_frame)(kept)
            if frame is None:
                break
            requests += 1
            # Taken before the answer goes out: a pause of this process must not make the gap look shorter.
            answered = time.monotonic() if not kept else None
            answer(line, frame)


def rtu_frame(kept):
    if len(kept) < 8:
        return None, kept
    length = 9 + kept[6] if kept[1] in (15, 16) else 8
    if len(kept) < length:
        return None, kept
    frame, rest = kept[:length], kept[length:]
    return (frame, rest) if crc(frame[:-2]) == frame[-2:] else (None, b"")


def ascii_frame(kept):
    text, end, rest = kept.partition(b"\r\n")
    if not end:
        return None, kept
    frame = bytes.fromhex(text[text.index(b":") + 1 :].decode())
    return (frame, rest) if lrc(frame[:-1]) == frame[-1:] else (None, rest)


class Pty:
    def __init__(self):
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        self.place = os.ttyname(self.slave)

    def out(self):
        return self.master

    def read(self):
        return os.read(self.master, 512)

    def write(self, data):
        os.write(self.master, data)


class Server:
    """Passes bytes between one line and the newest connection."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.place = self.listener.getsockname()[1]
        self.changed = threading.Condition()
        self.connection = None
        self.connections = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            with self.changed:
                self.connection = connection
                self.connections += 1
                self.changed.notify_all()

    def out(self):
        with self.changed:
            self.changed.wait_for(lambda: self.connection)
            return self.connection

    def read(self):
        while True:
            connection = self.out()
            try:
                data = connection.recv(512)
            except OSError:
                data = b""
            if data:
                return data
            with self.changed:
                if self.connection is connection:
                    self.connection = None

    def write(self, data):
        # What nobody is connected for waits for the next that is: the worst such a server can do.
        while True:
            connection = self.out()
            ended = select.select([connection], [], [], 0)[0]
            try:
                if ended and not connection.recv(1, socket.MSG_PEEK):
                    raise OSError("closed")
                return connection.sendall(data)
            except OSError:
                with self.changed:
                    if self.connection is connection:
                        self.connection = None


bus = Server() if "tcp" in sys.argv else Pty()
threading.Thread(target=serve, args=(bus,), daemon=True).start()
print("ready", bus.place, flush=True)
for text in sys.stdin:
    word, *rest = text.split()
    if word == "mode":
        modes[int(rest[0])] = rest[1:]
        print("ok", flush=True)
    elif word == "stats":
        print(requests, late, gap, flush=True)
    elif word == "hangup":
        break
os._exit(0)
