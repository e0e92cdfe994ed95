"""What the tests use of libmodbus, the C library (Debian's libmodbus5), by its own names without `modbus_`."""

import ctypes
from ctypes import POINTER, c_char, c_char_p, c_float, c_int, c_uint8, c_uint16, c_uint32, c_void_p

LONGEST = 260  # MODBUS_MAX_ADU_LENGTH
NAMES = ("abcd", "cdab", "badc", "dcba")
# 123456.0 as a device sends it in each order: the bytes 47 F1 20 00, moved.
SENT = {"ABCD": (0x47F1, 0x2000), "CDAB": (0x2000, 0x47F1), "BADC": (0xF147, 0x0020), "DCBA": (0x0020, 0xF147)}


class Mapping(ctypes.Structure):
    """modbus_mapping_t"""

    _fields_ = [
        *((name, c_int) for name in ("bits", "start_bits", "inputs", "start_inputs", "input_registers")),
        *((name, c_int) for name in ("start_input_registers", "registers", "start_registers")),
        ("tab_bits", POINTER(c_uint8)),
        ("tab_input_bits", POINTER(c_uint8)),
        ("tab_input_registers", POINTER(c_uint16)),
        ("tab_registers", POINTER(c_uint16)),
    ]


def signatures():
    context, words, bits = c_void_p, POINTER(c_uint16), POINTER(c_uint8)
    yield "new_tcp", context, [c_char_p, c_int]
    yield "new_rtu", context, [c_char_p, c_int, c_char, c_int, c_int]
    yield "set_slave", c_int, [context, c_int]
    yield "set_response_timeout", c_int, [context, c_uint32, c_uint32]
    yield "connect", c_int, [context]
    yield "close", None, [context]
    yield "free", None, [context]
    yield "strerror", c_char_p, [c_int]
    yield "tcp_listen", c_int, [context, c_int]
    yield "tcp_accept", c_int, [context, POINTER(c_int)]
    yield "mapping_new", POINTER(Mapping), [c_int] * 4
    yield "receive", c_int, [context, bits]
    yield "reply", c_int, [context, bits, c_int, POINTER(Mapping)]
    yield "get_header_length", c_int, [context]
    yield "read_bits", c_int, [context, c_int, c_int, bits]
    yield "read_input_bits", c_int, [context, c_int, c_int, bits]
    yield "read_registers", c_int, [context, c_int, c_int, words]
    yield "read_input_registers", c_int, [context, c_int, c_int, words]
    yield "write_bit", c_int, [context, c_int, c_int]
    yield "write_register", c_int, [context, c_int, c_uint16]
    yield "write_bits", c_int, [context, c_int, c_int, bits]
    yield "write_registers", c_int, [context, c_int, c_int, words]
    yield "mask_write_register", c_int, [context, c_int, c_uint16, c_uint16]
    yield "write_and_read_registers", c_int, [context, c_int, c_int, words, c_int, c_int, words]
    for name in NAMES:
        yield f"get_float_{name}", c_float, [words]
        yield f"set_float_{name}", None, [c_float, words]


class Library:
    """The library; what it returns as an error becomes an OSError in its own words.

    `float_of` and `words_of` are its functions for floats, by the order that they are for. Their own names do not say
    that: they changed their meaning between versions, and in some what was written as `abcd` is not read as `abcd`.
    """

    def __init__(self):
        library = ctypes.CDLL("libmodbus.so.5", use_errno=True)
        for name, result, arguments in signatures():
            function = getattr(library, f"modbus_{name}")
            function.restype, function.argtypes = result, arguments
            setattr(self, name, self.checked(function) if result is c_int else function)
        self.float_of, self.words_of = {}, {}
        for order, sent in SENT.items():
            for name in NAMES:
                read, write = getattr(self, f"get_float_{name}"), getattr(self, f"set_float_{name}")
                words = (c_uint16 * 2)(*sent)
                if read(words) == 123456.0:
                    self.float_of[order] = read
                write(123456.0, words)
                if tuple(words) == sent:
                    self.words_of[order] = write

    def checked(self, function):
        def call(*arguments):
            result = function(*arguments)
            if result == -1:
                number = ctypes.get_errno()
                raise OSError(number, self.strerror(number).decode())
            return result

        return call

    def context(self, where, unit):
        """A context for `HOST:PORT`, or for a serial line of 19200 baud 8N1."""
        host, _, port = where.rpartition(":")
        made = self.new_tcp(host.encode(), int(port)) if port.isdigit() else None
        made = made or self.new_rtu(where.encode(), 19200, b"N", 8, 1)
        self.set_slave(made, unit)
        return made
