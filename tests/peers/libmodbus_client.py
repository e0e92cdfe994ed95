"""A Modbus client by libmodbus: what the simulator serves, seen by a library in C that shares no code with it.

    libmodbus_client.py HOST:PORT|PATH UNIT REQUESTS

REQUESTS is a JSON list, by the names of the library's own functions without `modbus_`:

    ["read_registers", START, COUNT]            also read_input_registers, read_bits, read_input_bits: the values
    ["float", ORDER, START]                     two holding registers by get_float_ORDER
    ["input-float", ORDER, START]               two input registers the same
    ["write-float", ORDER, START, VALUE]        set_float_ORDER and write_registers
    ["write_register", START, WORD]             also write_bit: true
    ["write_registers", START, WORDS]           also write_bits: true
    ["mask_write_register", START, AND, OR]     true
    ["write_and_read_registers", START, WORDS]  both at the same place: what was read

Prints one JSON list of the answers; what failed is `{"error": TEXT}`.
"""

import json
import sys
from ctypes import c_uint8, c_uint16

from libmodbus import Library

library = Library()


def read(context, function, start, count):
    values = ((c_uint8 if "bits" in function else c_uint16) * count)()
    getattr(library, function)(context, start, count, values)
    return list(values)


def ask(context, action, *rest):
    if action.endswith("write-float"):
        order, start, value = rest
        words = (c_uint16 * 2)()
        getattr(library, f"set_float_{order}")(value, words)
        return library.write_registers(context, start, 2, words) == 2
    if action.endswith("float"):
        order, start = rest
        words = read(context, "read_input_registers" if "input" in action else "read_registers", start, 2)
        return getattr(library, f"get_float_{order}")((c_uint16 * 2)(*words))
    if action.startswith("read"):
        return read(context, action, *rest)
    if action in ("write_bits", "write_registers"):
        start, values = rest
        many = ((c_uint8 if "bits" in action else c_uint16) * len(values))(*values)
        return getattr(library, action)(context, start, len(values), many) == len(values)
    if action == "write_and_read_registers":
        start, values = rest
        many, found = (c_uint16 * len(values))(*values), (c_uint16 * len(values))()
        library.write_and_read_registers(context, start, len(values), many, start, len(values), found)
        return list(found)
    return getattr(library, action)(context, *rest) == 1


def main():
    where, unit, requests = sys.argv[1:]
    context = library.context(where, int(unit))
    # Nothing here is meant to stay unanswered: only a hang takes that long.
    library.set_response_timeout(context, 20, 0)
    library.connect(context)
    answers = []
    for request in json.loads(requests):
        try:
            answers.append(ask(context, *request))
        except OSError as error:
            answers.append({"error": error.strerror})
    library.close(context)
    library.free(context)
    print(json.dumps(answers))


main()
