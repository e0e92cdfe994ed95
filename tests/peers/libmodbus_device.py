"""A Modbus unit served by libmodbus: a peer in C that shares no code with the gateway, nor with pymodbus.

    libmodbus_device.py tcp|rtu|rtu-tcp

Prints `ready PORT` or `ready PATH`. rtu-tcp is its serial line behind a serial server that passes bytes on. Unit 1 has
1000 places of each area. Lines on standard input, each answered by one line; a PLACE is a holding register, or
`input:N`, `coil:N`, `discrete:N`:

    roll TYPE                           a value of the type, at random
    pack TYPE ORDER VALUE               `WORD ...;MASK ...`: its registers, and the bits of them that are its own
    set UNIT PLACE WORD ...             `ok`
    words UNIT PLACE COUNT              what lies there
    seen                                `UNIT:FUNCTION` of every request since the last `seen`

It ends when its standard input does.
"""

import os
import socket
import sys
import threading
import tty
from ctypes import byref, c_int, c_uint8

from libmodbus import LONGEST, Library
from packing import packed, roll

UNIT = 1
PLACES = 1000

library = Library()
mapping = library.mapping_new(*[PLACES] * 4)
areas = {
    "": mapping.contents.tab_registers,
    "input": mapping.contents.tab_input_registers,
    "coil": mapping.contents.tab_bits,
    "discrete": mapping.contents.tab_input_bits,
}
seen = []


def answer(context):
    """Answers what comes until the connection ends."""
    request = (c_uint8 * LONGEST)()
    function = library.get_header_length(context)
    while True:
        # 0: a frame for another unit.
        if length := library.receive(context, request):
            seen.append(f"{request[function - 1]}:{request[function]}")
            library.reply(context, request, length, mapping)


def serve_tcp(context, listening):
    while True:
        library.tcp_accept(context, byref(listening))
        try:
            answer(context)
        except OSError:
            library.close(context)


def pump(read, write):
    """Passes bytes on until their source ends."""
    while data := read():
        write(data)


def pty():
    master, slave = os.openpty()
    tty.setraw(slave)  # the slave stays open here, so that the line outlives whoever opens and closes it
    return master, os.ttyname(slave)


def serve_serial_server(master, listener):
    """Every byte of the line to the newest connection, and back."""
    connections = []

    def out(data):
        try:
            connections[-1].sendall(data)
        except (IndexError, OSError):
            pass  # nobody is connected: the byte is lost, as on a line

    threading.Thread(target=pump, args=(lambda: os.read(master, 512), out), daemon=True).start()
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connections.append(connection)
        arguments = (lambda end=connection: received(end), lambda data: os.write(master, data))
        threading.Thread(target=pump, args=arguments, daemon=True).start()


def received(connection):
    try:
        return connection.recv(512)
    except OSError:
        return b""


def start(transport):
    if transport == "tcp":
        context = library.context("127.0.0.1:0", UNIT)
        listening = c_int(library.tcp_listen(context, 4))
        threading.Thread(target=serve_tcp, args=(context, listening), daemon=True).start()
        return socket.socket(fileno=os.dup(listening.value)).getsockname()[1]
    (ours, inner), (theirs, outer) = pty(), pty()
    context = library.context(inner, UNIT)
    library.connect(context)
    threading.Thread(target=answer, args=(context,), daemon=True).start()
    if transport == "rtu":
        for source, target in ((ours, theirs), (theirs, ours)):
            arguments = (lambda end=source: os.read(end, 512), lambda data, end=target: os.write(end, data))
            threading.Thread(target=pump, args=arguments, daemon=True).start()
        return outer
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve_serial_server, args=(ours, listener), daemon=True).start()
    return listener.getsockname()[1]


def obey(word, rest):
    if word == "roll":
        return roll(*rest)
    if word == "pack":
        return packed(*rest)
    if word == "seen":
        text = " ".join(seen)
        seen.clear()
        return text
    area, _, start = rest[1].rpartition(":")
    table, start = areas[area], int(start)
    if word == "set":
        for place, text in enumerate(rest[2:], start):
            table[place] = int(text)
        return "ok"
    return " ".join(str(table[place]) for place in range(start, start + int(rest[2])))


print("ready", start(sys.argv[1]), flush=True)
for line in sys.stdin:
    asked, *more = line.split()
    print(obey(asked, more), flush=True)
os._exit(0)
