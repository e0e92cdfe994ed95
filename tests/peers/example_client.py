"""A client as pymodbus shows it to its users: the calls of the examples `client_async.py`, `client_async_calls.py` and
`simple_async_client.py`, in their order. They are on pymodbus' site and not in its packages.

    example_client.py tcp|rtu|rtu-tcp|ascii|ascii-tcp HOST:PORT|PATH

Device 1 needs coils 0 to 31, discrete inputs 0 to 7, holding registers 0 to 11 and input registers 1 to 8. Prints one
line for each group of calls that went well. The last two groups ask for what a device may lack: they expect exception 1.
"""

import asyncio
import sys

from pymodbus import FramerType
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.pdu import FileRecord

DEVICE = {"device_id": 1}
FRAMERS = {"tcp": FramerType.SOCKET, "rtu": FramerType.RTU, "ascii": FramerType.ASCII}
TIMEOUT = 20  # seconds; only a failing test takes them


def create(transport, place):
    kind, _, over = transport.partition("-")
    if "tcp" not in (kind, over):
        return AsyncModbusSerialClient(place, framer=FRAMERS[kind], timeout=TIMEOUT, baudrate=9600)
    host, port = place.rsplit(":", 1)
    return AsyncModbusTcpClient(
        host,
        port=int(port),
        framer=FRAMERS[kind],
        timeout=TIMEOUT,
        retries=3,
        reconnect_delay=1,
        reconnect_delay_max=10,
    )


async def good(call):
    answer = await call
    assert not answer.isError(), answer
    return answer


async def template(client):
    await good(client.read_coils(1, count=1, **DEVICE))


async def coils(client):
    for count, padded in ((1, 8), (5, 8), (12, 16), (17, 24)):
        answer = await good(client.read_coils(1, count=count, **DEVICE))
        assert len(answer.bits) == padded, answer
    await good(client.write_coil(0, True, **DEVICE))
    assert (await good(client.read_coils(0, count=1, **DEVICE))).bits[0]
    await good(client.write_coils(1, [True] * 21, **DEVICE))
    answer = await good(client.read_coils(1, count=21, **DEVICE))
    assert answer.bits == [True] * 21 + [False] * 3, answer
    await good(client.write_coils(1, [False] * 8, **DEVICE))
    assert (await good(client.read_coils(1, count=8, **DEVICE))).bits == [False] * 8


async def discrete_inputs(client):
    assert len((await good(client.read_discrete_inputs(0, count=8, **DEVICE))).bits) == 8


async def holding_registers(client):
    async def holds(count):
        return (await good(client.read_holding_registers(1, count=count, **DEVICE))).registers

    await good(client.write_register(1, 10, **DEVICE))
    assert await holds(1) == [10]
    await good(client.write_registers(1, [10] * 8, **DEVICE))
    assert await holds(8) == [10] * 8
    await good(client.write_registers(1, [10], **DEVICE))
    assert await holds(1) == [10]
    number = client.DATATYPE.INT32
    registers = client.convert_to_registers(13211, number)
    await good(client.write_registers(1, registers, **DEVICE))
    assert client.convert_from_registers(await holds(len(registers)), number) == 13211
    values = [256, 128, 100, 50, 25, 10, 5, 1]
    both = {"read_address": 1, "read_count": 8, "write_address": 1, "values": values}
    await good(client.readwrite_registers(**both, **DEVICE))
    assert await holds(8) == values


async def input_registers(client):
    assert len((await good(client.read_input_registers(1, count=8, **DEVICE))).registers) == 8


async def simple(client):
    await good(client.read_coils(1, count=1, **DEVICE))
    answer = await good(client.read_holding_registers(10, count=2, **DEVICE))
    client.convert_from_registers(answer.registers, data_type=client.DATATYPE.INT32)


async def lacking(*calls):
    for call in calls:
        answer = await call
        assert answer.isError() and answer.exception_code == 1, answer


async def file_records(client):
    record = FileRecord(file_number=14, record_number=12, record_length=64)
    text = FileRecord(file_number=14, record_number=12, record_data=b"Pure test ")
    await lacking(
        client.read_file_record([record, record], **DEVICE), client.write_file_record([text], **DEVICE)
    )


async def information_and_diagnostics(client):
    await lacking(
        client.read_device_information(read_code=1, object_id=0, **DEVICE),
        client.report_device_id(**DEVICE),
        client.read_exception_status(**DEVICE),
        client.diag_get_comm_event_counter(**DEVICE),
        client.diag_get_comm_event_log(**DEVICE),
        client.diag_query_data(msg=b"OK", **DEVICE),
        client.diag_restart_communication(True, **DEVICE),
        client.diag_read_diagnostic_register(**DEVICE),
        client.diag_clear_counters(**DEVICE),
        client.diag_read_device_message_count(**DEVICE),
        client.diag_getclear_modbus_response(**DEVICE),
    )


GROUPS = (
    template,
    coils,
    discrete_inputs,
    holding_registers,
    input_registers,
    simple,
    file_records,
    information_and_diagnostics,
)


async def main(transport, place):
    client = create(transport, place)
    await client.connect()
    assert client.connected
    for group in GROUPS:
        await group(client)
        print(group.__name__, flush=True)
    client.close()


asyncio.run(main(*sys.argv[1:]))
