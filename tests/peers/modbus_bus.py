"""Modbus units by pymodbus on any transport, with types and byte orders packed by code of its own.

    modbus_bus.py tcp|rtu|rtu-tcp|ascii|ascii-tcp [FUNCTION ...]

Prints `ready PORT` or `ready PATH`. Units 1 to 3 have 1000 holding registers, input registers and coils each; the
FUNCTIONs given are answered by exception 1. Over tcp unit 0 is not there, elsewhere it means all of them.

Lines on standard input, each answered by one line:

    roll TYPE                           a value of the type, at random
    put UNIT START TYPE ORDER VALUE     keeps the value in holding registers: `ok`
    take UNIT START TYPE ORDER          the value that holding registers hold
    set UNIT START WORD ...             `ok`
    words UNIT START COUNT              the registers
    coils UNIT START COUNT              the coils
    seen                                `UNIT:FUNCTION` of every request since the last `seen`
    gaps                                seconds from each answer to the next request

It ends when its standard input does.
"""

import asyncio
import logging
import os
import random
import struct
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

UNITS = (1, 2, 3)
PLACES = 1000
INTEGERS = {"i16": "h", "u16": "H", "i32": "i", "u32": "I", "i64": "q", "u64": "Q"}
FLOATS = {"f32": "f", "f64": "d"}
NARROW = {"i8": (8, 2), "u8": (8, 2), "i24": (24, 4), "u24": (24, 4)}
DIGITS = {"bcd16": 4, "bcd32": 8}
FRAMERS = {"tcp": FramerType.SOCKET, "rtu": FramerType.RTU, "ascii": FramerType.ASCII}

logging.getLogger("pymodbus_internal").setLevel(logging.ERROR)
logging.getLogger("pymodbus").setLevel(logging.ERROR)
logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)
random.seed(11)
seen, gaps, answered = [], [], None


def roll(kind):
    if kind in INTEGERS:
        size = struct.calcsize(INTEGERS[kind])
        return struct.unpack(">" + INTEGERS[kind], random.randbytes(size))[0]
    if kind in NARROW:
        width = NARROW[kind][0]
        low = -(1 << width - 1) if kind[0] == "i" else 0
        return random.randint(low, low + (1 << width) - 1)
    if kind in DIGITS:
        return random.randrange(10 ** DIGITS[kind])
    if kind == "f32":
        return struct.unpack(">f", struct.pack(">f", random.uniform(-1e6, 1e6)))[0]
    if kind == "f64":
        return random.uniform(-1e12, 1e12)
    return "".join(random.choices("abcdefghijKLMNOP0123456789", k=random.randint(1, text_length(kind))))


def text_length(kind):
    return int(kind.removeprefix("string"))


def pack(kind, order, value):
    """The registers of a value: big-endian, then words reversed, then bytes of each swapped."""
    if kind in INTEGERS:
        data = struct.pack(">" + INTEGERS[kind], int(value))
    elif kind in FLOATS:
        data = struct.pack(">" + FLOATS[kind], float(value))
    elif kind in NARROW:
        width, size = NARROW[kind]
        data = (int(value) % (1 << width)).to_bytes(size, "big")
    elif kind in DIGITS:
        data = bytes.fromhex(str(value).zfill(DIGITS[kind]))
    else:
        data = value.encode().ljust(text_length(kind) + text_length(kind) % 2, b"\0")
    words = [data[n : n + 2] for n in range(0, len(data), 2)]
    if order in ("CDAB", "DCBA") and not kind.startswith("string"):
        words.reverse()
    if order in ("BADC", "DCBA"):
        words = [word[::-1] for word in words]
    return [int.from_bytes(word, "big") for word in words]


def unpack(kind, order, words):
    words = [word.to_bytes(2, "big") for word in words]
    if order in ("BADC", "DCBA"):
        words = [word[::-1] for word in words]
    if order in ("CDAB", "DCBA") and not kind.startswith("string"):
        words.reverse()
    data = b"".join(words)
    if kind in INTEGERS:
        return struct.unpack(">" + INTEGERS[kind], data)[0]
    if kind in FLOATS:
        return struct.unpack(">" + FLOATS[kind], data)[0]
    if kind in NARROW:
        width = NARROW[kind][0]
        return int.from_bytes(data[-(width // 8) :], "big", signed=kind[0] == "i")
    if kind in DIGITS:
        return int(data.hex())
    return data[: text_length(kind)].split(b"\0")[0].decode()


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
    at, start = int(rest[0]), int(rest[1])
    if word == "put":
        await context.async_setValues(at, 16, start, pack(*rest[2:]))
        return "ok"
    if word == "set":
        await context.async_setValues(at, 16, start, [int(text) for text in rest[2:]])
        return "ok"
    if word == "take":
        kind, order = rest[2:]
        zero = "" if kind.startswith("string") else 0
        words = await context.async_getValues(at, 3, start, len(pack(kind, order, zero)))
        return unpack(kind, order, words)
    found = await context.async_getValues(at, 1 if word == "coils" else 3, start, int(rest[2]))
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
