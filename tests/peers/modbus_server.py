"""A pymodbus server, over TCP or over RTU on a pty, whose every place says its own address.

    modbus_server.py tcp    prints `ready PORT`
    modbus_server.py rtu    prints `ready PATH`

Unit 1. holding n = n, input n = n ^ 0xFFFF, coil n is on when n % 3 == 0, discrete n when n % 5 == 0;
places 0 to 9999, the rest is refused with exception 2. Ends when its standard input does.
"""

import asyncio
import logging
import os
import sys
import tty

from pymodbus import FramerType
from pymodbus.datastore import ModbusDeviceContext, ModbusSequentialDataBlock, ModbusServerContext
from pymodbus.server import ModbusSerialServer, ModbusTcpServer

PLACES = range(10000)

# The data blocks below are deprecated in favour of pymodbus 4; the version here is pinned.
logging.getLogger("pymodbus_internal").setLevel(logging.ERROR)
logging.getLogger("pymodbus").setLevel(logging.ERROR)


def context():
    # The device context looks one place further than the wire says.
    unit = ModbusDeviceContext(
        di=ModbusSequentialDataBlock(1, [n % 5 == 0 for n in PLACES]),
        co=ModbusSequentialDataBlock(1, [n % 3 == 0 for n in PLACES]),
        hr=ModbusSequentialDataBlock(1, list(PLACES)),
        ir=ModbusSequentialDataBlock(1, [n ^ 0xFFFF for n in PLACES]),
    )
    return ModbusServerContext(devices={1: unit}, single=False)


def bridge(loop):
    """Two ptys, joined at their masters: one end for pymodbus, one for the gateway."""
    ends = [os.openpty() for _ in range(2)]
    for master, slave in ends:
        tty.setraw(slave)
        os.set_blocking(master, False)
    (left, _), (right, _) = ends
    loop.add_reader(left, lambda: os.write(right, os.read(left, 512)))
    loop.add_reader(right, lambda: os.write(left, os.read(right, 512)))
    return [os.ttyname(slave) for _, slave in ends]


async def main(kind):
    loop = asyncio.get_running_loop()
    if kind == "tcp":
        server = ModbusTcpServer(context(), address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        ready = server.transport.sockets[0].getsockname()[1]
    else:
        ours, ready = bridge(loop)
        server = ModbusSerialServer(context(), framer=FramerType.RTU, port=ours, baudrate=19200)
        await server.serve_forever(background=True)
    print("ready", ready, flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    os._exit(0)


asyncio.run(main(sys.argv[1]))
