"""A Modbus client by libmodbus: what the simulator serves, seen by a library in C that shares no code with it.

    libmodbus_client.py HOST:PORT|PATH UNIT REQUESTS

REQUESTS is a JSON list, by the names of the library's own functions without `modbus_`:

    ["read_registers", START, COUNT]            also read_input_registers, read_bits, read_input_bits: the values
    ["value", AREA, START, TYPE, ORDER]         a value, f32 by the library's get_float_*, others by packing.py
    ["put", START, TYPE, ORDER, VALUE]          writes a value, f32 by its set_float_*: true
    ["write_register", START, WORD]             also write_bit: true
    ["write_registers", START, WORDS]           also write_bits: true
    ["mask_write_register", START, AND, OR]     true
    ["write_and_read_registers", START, WORDS]  both at the same place: what was read

Prints one JSON list of the answers; what failed is `{"error": TEXT}`.
"""

import errno
import json
import sys
import time
from ctypes import c_uint8, c_uint16

from libmodbus import Library
from packing import owned, pack, unpack

library = Library()


def read(context, function, start, count):
    values = ((c_uint8 if "bits" in function else c_uint16) * count)()
    getattr(library, function)(context, start, count, values)
    return list(values)


def ask(context, action, *rest):
    if action == "put":
        start, kind, order, value = rest
        words = pack(kind, order, value)
        if kind == "f32":
            made = (c_uint16 * 2)()
            library.words_of[order](value, made)
            words = list(made)
        return ask(context, "write_registers", start, words)
    if action == "value":
        area, start, kind, order = rest
        function = "read_registers" if area == "holding" else "read_input_registers"
        words = read(context, function, start, len(owned(kind, order)))
        if kind == "f32":
            return library.float_of[order]((c_uint16 * 2)(*words))
        return unpack(kind, order, words)
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


def connect(context):
    """A port that another program has just closed may stay locked for a moment."""
    for _ in range(100):
        try:
            return library.connect(context)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            time.sleep(0.2)
    sys.exit("the port stays locked")


def main():
    where, unit, requests = sys.argv[1:]
    context = library.context(where, int(unit))
    # Nothing here is meant to stay unanswered: only a hang takes that long.
    library.set_response_timeout(context, 20, 0)
    connect(context)
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
