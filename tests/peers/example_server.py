"""The servers that pymodbus shows its users, with their own content, at a place of our choice.

    example_server.py async|simulator tcp|rtu|rtu-tcp|ascii|ascii-tcp

`async` makes the calls of the example `server_async.py`, in its order: the examples are on pymodbus' site and not in its
packages. `simulator` is the program `pymodbus.simulator` as it is installed, with the device `device_try` of the
configuration that comes with it; only the address is another. Prints `ready PORT` or `ready PATH`, and ends when its
standard input does.
"""

import asyncio
import json
import logging
import os
import sys
import tempfile
import tty
from pathlib import Path

import pymodbus.server.simulator.main as simulator
from pymodbus import FramerType, ModbusDeviceIdentification
from pymodbus import __version__ as version
from pymodbus.datastore import ModbusDeviceContext, ModbusSequentialDataBlock, ModbusServerContext
from pymodbus.server import ModbusBaseServer, StartAsyncSerialServer, StartAsyncTcpServer

FRAMERS = {"tcp": FramerType.SOCKET, "rtu": FramerType.RTU, "ascii": FramerType.ASCII}
BAUD_RATE = 9600


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


async def run_async(framer, port):
    def block():
        # The first place of a block is 1 here and 0 on the wire.
        return ModbusSequentialDataBlock(1, [17] * 100)

    device = ModbusDeviceContext(di=block(), co=block(), hr=block(), ir=block())
    context = ModbusServerContext(devices=device, single=True)
    identity = ModbusDeviceIdentification(
        info_name={
            "VendorName": "Pymodbus",
            "ProductCode": "PM",
            "VendorUrl": "https://github.com/pymodbus-dev/pymodbus/",
            "ProductName": "Pymodbus Server",
            "ModelName": "Pymodbus Server",
            "MajorMinorRevision": version,
        }
    )
    if port:
        await StartAsyncSerialServer(
            context=context, identity=identity, port=port, framer=framer, baudrate=BAUD_RATE
        )
    else:
        await StartAsyncTcpServer(
            context=context, identity=identity, address=("127.0.0.1", 0), framer=framer
        )


async def run_simulator(framer, port):
    setup = json.loads(Path(simulator.__file__).with_name("setup.json").read_text())
    server = setup["server_list"]["server_try_serial" if port else "server"]
    server.update({"port": port} if port else {"host": "127.0.0.1", "port": 0}, framer=framer.value)
    setup["server_list"] = {"server": server}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(setup, file)
        file.flush()
        words = ["--modbus_server", "server", "--modbus_device", "device_try", "--json_file", file.name]
        words += ["--http_host", "127.0.0.1", "--http_port", "0", "--log", "critical"]
        await simulator.run_main(words)


async def main(which, transport):
    loop = asyncio.get_running_loop()
    kind, _, over = transport.partition("-")
    ours, place = (None, None) if "tcp" in (kind, over) else bridge(loop)
    serving = loop.create_task({"async": run_async, "simulator": run_simulator}[which](FRAMERS[kind], ours))
    # The examples say nothing when they serve.
    while not (server := ModbusBaseServer.active_server) or not server.transport:
        if serving.done():
            return await serving
        await asyncio.sleep(0.01)
    print("ready", place or server.transport.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    os._exit(0)


logging.disable(logging.CRITICAL)
asyncio.run(main(*sys.argv[1:]))
