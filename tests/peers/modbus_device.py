"""Modbus devices that pymodbus serves: a peer which shares no code with the gateway.

    modbus_device.py tcp|rtu|rtu-tcp|ascii|ascii-tcp UNITS [trace]

UNITS is JSON, registers by their first address, as on the wire:
    {"1": {"holding": {"0": [16709, 28836]}, "coil": {"4": [true]}, "counter": 100}}
What is not given does not exist (exception 2); a unit that is not given never answers. `counter` names an input
register that counts its reads, beginning with 1. Except over tcp, a write to unit 0 is one to every unit.

The first line printed is `listening ADDRESS` (host:port, or the path of a pty), then one line for each write:
    wrote UNIT AREA ADDRESS VALUES
and with `trace`, for each request and each refusal, by the bytes on the wire:
    asked UNIT FUNCTION ADDRESS COUNT
    refused UNIT FUNCTION CODE
It runs until its standard input ends.
"""

import asyncio
import functools
import json
import logging
import os
import sys
import tty

from pymodbus import ModbusDeviceIdentification
from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

AREAS = ("coil", "discrete", "holding", "input")  # in the order that SimDevice wants
WRITES = {5: "coil", 15: "coil", 6: "holding", 16: "holding", 22: "holding", 23: "holding"}
READ_INPUT = 4
IDENTITY = {"VendorName": "Peers & Co", "ProductCode": "P 120", "MajorMinorRevision": "2.1"}


def say(*words):
    print(*words, flush=True)


def block(area, content):
    kind = DataType.BITS if area in ("coil", "discrete") else DataType.REGISTERS
    entries = [SimData(int(at), values=values, datatype=kind) for at, values in content.items()]
    # An area without content still has to exist; its last address stands for that.
    return entries or [SimData(65535, values=False if kind is DataType.BITS else 0, datatype=kind)]


async def watch(unit, counter, function, start, address, count, registers, values):
    if function in WRITES and values is not None:
        say("wrote", unit, WRITES[function], address, json.dumps([int(value) for value in values]))
    if function == READ_INPUT and counter is not None and address <= counter < address + count:
        registers[counter - start] += 1


def devices(units):
    made = []
    for unit, areas in units.items():
        counter = areas.pop("counter", None)
        if counter is not None:
            areas.setdefault("input", {})[str(counter)] = [0]
        blocks = tuple(block(area, areas.get(area, {})) for area in AREAS)
        made.append(SimDevice(int(unit), simdata=blocks, action=functools.partial(watch, unit, counter)))
    return made


def unless_missing(units, unit_at, sending, packet):
    """pymodbus answers for a missing unit with an exception; a line without that unit stays silent."""
    if sending and len(packet) > unit_at and packet[unit_at] not in units:
        return b""
    return packet


def trace(unit_at, sending, packet):
    """Says what went over the wire."""
    unit, function, *rest = packet[unit_at : unit_at + 6]
    if not sending:
        say("asked", unit, function, rest[0] << 8 | rest[1], rest[2] << 8 | rest[3])
    elif function >= 0x80:
        say("refused", unit, function & 0x7F, rest[0])


def pty():
    master, slave = os.openpty()
    tty.setraw(slave)  # the slave stays open here, so that the line outlives whoever opens and closes it
    return master, os.ttyname(slave)


def pump(loop, source, sink):
    loop.add_reader(source, lambda: os.write(sink, os.read(source, 4096)))


async def serve(how, units, is_traced):
    present = {int(unit) for unit in units}
    kind, _, over = how.partition("-")
    framer = {"tcp": FramerType.SOCKET, "rtu": FramerType.RTU, "ascii": FramerType.ASCII}[kind]
    more = {"framer": framer}
    unit_at = 6 if kind == "tcp" else 0

    def silence(sending, packet):
        # ASCII: a colon, then two digits for each byte, CR and LF. What comes may be a part of that.
        plain = bytes.fromhex(packet[1:].strip().decode()) if kind == "ascii" and sending else packet
        if is_traced and kind != "ascii" and len(plain) > unit_at + 2:
            trace(unit_at, sending, plain)
        return packet if unless_missing(present, unit_at, sending, plain) else b""

    more["trace_packet"] = silence
    if kind != "tcp":
        more["broadcast_enable"] = True
    if "tcp" in (kind, over):
        identity = ModbusDeviceIdentification(info_name=IDENTITY)
        server = ModbusTcpServer(devices(units), address=("127.0.0.1", 0), identity=identity, **more)
        await server.serve_forever(background=True)
        host, port = server.transport.sockets[0].getsockname()[:2]
        say(f"listening {host}:{port}")
    else:
        loop = asyncio.get_running_loop()
        (ours, inner), (theirs, outer) = pty(), pty()
        pump(loop, ours, theirs)
        pump(loop, theirs, ours)
        server = ModbusSerialServer(devices(units), port=inner, baudrate=115200, **more)
        await server.serve_forever(background=True)
        say(f"listening {outer}")
    # Standard input is the leash: when it ends, whoever started this is gone.
    leash = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, lambda: os.read(0, 1024) or leash.set())
    await leash.wait()


logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)  # it logs a stack for each missing unit
asyncio.run(serve(sys.argv[1], json.loads(sys.argv[2]), "trace" in sys.argv[3:]))
