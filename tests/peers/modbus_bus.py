"""Modbus units by pymodbus on any transport, with types and byte orders packed by packing.py.

    modbus_bus.py tcp|rtu|rtu-tcp|ascii|ascii-tcp [FUNCTION ...]

Prints `ready PORT` or `ready PATH`. Units 1 to 3 have 1000 holding registers, input registers and coils each; the
FUNCTIONs given are answered by exception 1. Over tcp unit 0 is not there, elsewhere it means all of them.

Lines on standard input, each answered by one line:

    roll TYPE                           a value of the type, at random
    pack TYPE ORDER VALUE               `WORD ...;MASK ...`: its registers, and the bits of them that are its own
    put UNIT START TYPE ORDER VALUE     keeps the value in holding registers: `ok`
    take UNIT START TYPE ORDER          the value that holding registers hold
    set UNIT PLACE WORD ...             `ok`; PLACE is a holding register, or `input:N`, `coil:N`, `discrete:N`
    words UNIT PLACE COUNT              what lies there
    seen                                `UNIT:FUNCTION` of every request since the last `seen`
    gaps                                seconds from each answer to the next request

It ends when its standard input does.
"""

import asyncio
import logging
import os
import sys
import time
import tty

import pymodbus.pdu.bit_message as bits
import pymodbus.pdu.register_message as registers
from pymodbus import FramerType
from pymodbus.constants import ExcCodes
from pymodbus.datastore import ModbusDeviceContext, ModbusSequentialDataBlock, ModbusServerContext
from pymodbus.pdu import ExceptionResponse
from pymodbus.server import ModbusSerialServer, ModbusTcpServer

from packing import pack, packed, roll, unpack

UNITS = (1, 2, 3)
PLACES = 1000
READS = {"coil": 1, "discrete": 2, "": 3, "input": 4}
FRAMERS = {"tcp": FramerType.SOCKET, "rtu": FramerType.RTU, "ascii": FramerType.ASCII}

logging.getLogger("pymodbus_internal").setLevel(logging.ERROR)
logging.getLogger("pymodbus").setLevel(logging.ERROR)
logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)
seen, gaps, answered = [], [], None


def trace(sending, pdu):
    global answered
    now = time.monotonic()
    if sending:
        answered = now
    else:
        seen.append(f"{pdu.dev_id}:{pdu.function_code}")
        if answered is not None:
            gaps.append(now - answered)
        answered = None
    return pdu


def without(functions):
    """Answers those functions as a device that does not have them."""
    for module in (bits, registers):
        for request in vars(module).values():
            if getattr(request, "function_code", None) in functions and hasattr(request, "datastore_update"):

                async def refuse(self, *_):
                    return ExceptionResponse(self.function_code, ExcCodes.ILLEGAL_FUNCTION)

                request.datastore_update = refuse


def unit():
    def block():
        return ModbusSequentialDataBlock(1, [0] * PLACES)

    return ModbusDeviceContext(di=block(), co=block(), hr=block(), ir=block())


def bridge(loop):
    ends = [os.openpty() for _ in range(2)]
    for master, slave in ends:
        tty.setraw(slave)
        os.set_blocking(master, False)
    (left, _), (right, _) = ends
    loop.add_reader(left, lambda: os.write(right, os.read(left, 512)))
    loop.add_reader(right, lambda: os.write(left, os.read(right, 512)))
    return [os.ttyname(slave) for _, slave in ends]


async def obey(context, word, rest):
    if word == "roll":
        return roll(rest[0])
    if word == "seen":
        text = " ".join(seen)
        seen.clear()
        return text
    if word == "gaps":
        text = " ".join(map(str, gaps))
        gaps.clear()
        return text
    if word == "pack":
        return packed(*rest)
    area, _, start = rest[1].rpartition(":")
    at, start = int(rest[0]), int(start)
    if word == "put":
        await context.async_setValues(at, 16, start, pack(*rest[2:]))
        return "ok"
    if word == "set":
        await context.async_setValues(at, READS[area], start, [int(text) for text in rest[2:]])
        return "ok"
    if word == "take":
        kind, order = rest[2:]
        zero = "" if kind.startswith("string") else 0
        words = await context.async_getValues(at, 3, start, len(pack(kind, order, zero)))
        return unpack(kind, order, words)
    found = await context.async_getValues(at, READS[area], start, int(rest[2]))
    return " ".join(str(int(value)) for value in found)


async def main(kind, *functions):
    without([int(function) for function in functions])
    loop = asyncio.get_running_loop()
    context = ModbusServerContext(devices={number: unit() for number in UNITS}, single=False)
    framer, _, over = kind.partition("-")
    on_bus = kind != "tcp"
    more = {
        "framer": FRAMERS[framer],
        "trace_pdu": trace,
        "broadcast_enable": on_bus,
        "ignore_missing_devices": on_bus,
    }
    if "tcp" in (framer, over):
        server = ModbusTcpServer(context, address=("127.0.0.1", 0), **more)
        await server.serve_forever(background=True)
        ready = server.transport.sockets[0].getsockname()[1]
    else:
        ours, ready = bridge(loop)
        server = ModbusSerialServer(context, port=ours, baudrate=19200, **more)
        await server.serve_forever(background=True)
    print("ready", ready, flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        word, *rest = line.split()
        print(await obey(server.context, word, rest), flush=True)
    os._exit(0)


asyncio.run(main(*sys.argv[1:]))
