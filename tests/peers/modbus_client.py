"""A Modbus client by pymodbus: what the simulator serves, seen by code that shares none with it.

    modbus_client.py tcp HOST:PORT|rtu PATH REQUESTS

REQUESTS is a JSON list of `[UNIT, "read", AREA, START, COUNT]` and `[UNIT, "write", AREA, START, VALUE]`, where one
value is written by function 5 or 6, a list by 15 or 16. Prints one JSON list: for each request the values read, true for
a write, `{"exception": N}`, or `{"silent": true}` when nobody answered.
"""

import json
import logging
import sys

from pymodbus.client import ModbusSerialClient, ModbusTcpClient
from pymodbus.exceptions import ModbusIOException

SILENCE = 2  # seconds; only requests that nobody answers take them


def connect(how, where):
    if how == "rtu":
        return ModbusSerialClient(where, baudrate=19200, timeout=SILENCE, retries=0)
    host, port = where.rsplit(":", 1)
    return ModbusTcpClient(host, port=int(port), timeout=SILENCE, retries=0)


def ask(client, unit, action, area, start, argument):
    if action == "read":
        read = {
            "coil": client.read_coils,
            "discrete": client.read_discrete_inputs,
            "input": client.read_input_registers,
            "holding": client.read_holding_registers,
        }[area]
        answer = read(start, count=argument, device_id=unit)
    elif isinstance(argument, list):
        write = client.write_coils if area == "coil" else client.write_registers
        answer = write(start, argument, device_id=unit)
    else:
        write = client.write_coil if area == "coil" else client.write_register
        answer = write(start, argument, device_id=unit)
    if answer.isError():
        return {"exception": answer.exception_code}
    if action == "write":
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
