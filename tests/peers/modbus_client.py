"""A Modbus client by pymodbus: what the simulator serves, seen by code that shares none with it.

    modbus_client.py tcp|rtu|rtu-tcp|ascii|ascii-tcp HOST:PORT|PATH REQUESTS

REQUESTS is a JSON list of `[UNIT, "read", AREA, START, COUNT]`, `[UNIT, "write", AREA, START, VALUE]`, where one
value is written by function 5 or 6, a list by 15 or 16, `[UNIT, "mask", "holding", START, [AND, OR]]` (22) and
`[UNIT, "both", "holding", START, VALUES]` (23: written, then read). `[UNIT, "value", AREA, START, [TYPE, ORDER]]` reads one
value, by pymodbus' own conversion where it has one and else by packing.py, `[UNIT, "put", "holding", START, [TYPE, ORDER,
VALUE]]` writes it the same way. Prints one JSON list: for each request what was read, true for a write,
`{"exception": N}`, or `{"silent": true}` when nobody answered.
"""

import json
import logging
import sys

from pymodbus import FramerType
from pymodbus.client import ModbusSerialClient, ModbusTcpClient
from pymodbus.exceptions import ModbusIOException

from packing import owned, pack, unpack

SILENCE = 2  # seconds; only requests that nobody answers take them


def connect(how, where):
    kind, _, over = how.partition("-")
    framer = {"tcp": FramerType.SOCKET, "rtu": FramerType.RTU, "ascii": FramerType.ASCII}[kind]
    more = {"framer": framer, "timeout": SILENCE, "retries": 0}
    if "tcp" not in (kind, over):
        return ModbusSerialClient(where, baudrate=19200, **more)
    host, port = where.rsplit(":", 1)
    return ModbusTcpClient(host, port=int(port), **more)


def conversion(client, kind, order):
    """pymodbus' own name and word order for a type: it knows no swapped bytes."""
    name = {"i": "INT", "u": "UINT", "f": "FLOAT"}.get(kind[0], "") + kind[1:]
    if order in ("ABCD", "CDAB") and name in client.DATATYPE.__members__:
        return client.DATATYPE[name], "big" if order == "ABCD" else "little"
    return None


def ask(client, unit, action, area, start, argument):
    if action == "put":
        kind, order, value = argument
        own = conversion(client, kind, order)
        words = client.convert_to_registers(value, *own) if own else pack(kind, order, value)
        return ask(client, unit, "write", area, start, words)
    if action == "value":
        kind, order = argument
        own = conversion(client, kind, order)
        words = ask(client, unit, "read", area, start, len(owned(kind, order)))
        return client.convert_from_registers(words, *own) if own else unpack(kind, order, words)
    if action == "read":
        read = {
            "coil": client.read_coils,
            "discrete": client.read_discrete_inputs,
            "input": client.read_input_registers,
            "holding": client.read_holding_registers,
        }[area]
        answer = read(start, count=argument, device_id=unit)
    elif action == "mask":
        answer = client.mask_write_register(
            address=start, and_mask=argument[0], or_mask=argument[1], device_id=unit
        )
    elif action == "both":
        answer = client.readwrite_registers(
            read_address=start,
            read_count=len(argument),
            write_address=start,
            values=argument,
            device_id=unit,
        )
    elif isinstance(argument, list):
        write = client.write_coils if area == "coil" else client.write_registers
        answer = write(start, argument, device_id=unit)
    else:
        write = client.write_coil if area == "coil" else client.write_register
        answer = write(start, argument, device_id=unit)
    if answer.isError():
        return {"exception": answer.exception_code}
    if action in ("write", "mask"):
        return True
    return answer.bits[:argument] if area in ("coil", "discrete") else answer.registers


def main():
    logging.disable(logging.CRITICAL)
    how, where, requests = sys.argv[1:]
    client = connect(how, where)
    if not client.connect():
        sys.exit(f"nobody at {where}")
    answers = []
    for request in json.loads(requests):
        try:
            answers.append(ask(client, *request))
        except ModbusIOException:
            answers.append({"silent": True})
            client.connect()
    client.close()
    print(json.dumps(answers))


main()
