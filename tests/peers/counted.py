"""A Modbus TCP device that never says the same value twice, and keeps the book of what it said.

    counted.py POINTS

Prints `listening HOST:PORT`. Every unit from 1 on answers one read alone: input registers 0 to 4 x POINTS - 1 at
once (function 4), everything else with an exception. Four registers hold one point, a number of 64 bits that
reads in decimal UNIT PPP NNNNNNNNNNNN: the unit, the point, and which answer of the unit it is, from 1. So a
value tells by itself whose it is.

After each answer that the kernel took whole, prints

    served UNIT N CONNECTION ASKED ANSWERED

CONNECTION counts the connections; both times are nanoseconds of CLOCK_MONOTONIC. Who asks again on a connection
has taken the answer before. SIGUSR1 ends the counting: it prints `muted`, and from then on every read gets
exception 4. Runs until its standard input ends.
"""

import asyncio
import os
import signal
import struct
import sys
import time

READ_INPUT = 4
POINTS = int(sys.argv[1])
REGISTERS = 4 * POINTS
HEAD = struct.Struct(">HHHB")  # transaction, protocol, length, unit

answers = {}
connections = 0
is_mute = False


def say(*words):
    print(*words, flush=True)


def refuse(function, code):
    return bytes([function | 0x80, code])


class Connection(asyncio.Protocol):
    def connection_made(self, transport):
        global connections
        connections += 1
        self.number = connections
        self.transport = transport
        self.kept = b""

    def data_received(self, data):
        asked = time.monotonic_ns()
        self.kept += data
        while len(self.kept) >= HEAD.size:
            transaction, protocol, length, unit = HEAD.unpack_from(self.kept)
            if protocol != 0 or not 2 <= length <= 254:
                self.transport.abort()
                return
            if len(self.kept) < 6 + length:
                return
            request, self.kept = self.kept[HEAD.size : 6 + length], self.kept[6 + length :]
            self.answer(transaction, unit, request, asked)

    def answer(self, transaction, unit, request, asked):
        function = request[0]
        whole = struct.pack(">BHH", READ_INPUT, 0, REGISTERS)
        served = None
        if function != READ_INPUT:
            body = refuse(function, 1)
        elif request != whole:
            body = refuse(function, 2)
        elif is_mute:
            body = refuse(function, 4)
        else:
            served = answers.get(unit, 0) + 1
            answers[unit] = served
            first = unit * 10**15 + served
            values = struct.pack(f">{POINTS}Q", *(first + point * 10**12 for point in range(POINTS)))
            body = bytes([function, len(values)]) + values
        self.transport.write(HEAD.pack(transaction, 0, len(body) + 1, unit) + body)
        if served is not None:
            # What is still in our own buffer has not been served.
            whole = self.transport.get_write_buffer_size() == 0
            if whole:
                say("served", unit, served, self.number, asked, time.monotonic_ns())


def mute():
    global is_mute
    is_mute = True
    say("muted")


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0)
    loop.add_signal_handler(signal.SIGUSR1, mute)
    host, port = server.sockets[0].getsockname()
    say(f"listening {host}:{port}")
    leash = asyncio.Event()
    loop.add_reader(sys.stdin, lambda: os.read(0, 1024) or leash.set())
    await leash.wait()


asyncio.run(main())
