"""Values and the registers they lie in, by Python's own `struct`: nothing here is the gateway's.

TYPE is a type of the configuration; a string carries its length (`string5`), a part of a register its bits (`bool:3`,
`u32:8-19`). ORDER is ABCD, CDAB, BADC or DCBA.
"""

import json
import random
import struct

INTEGERS = {"i16": "h", "u16": "H", "i32": "i", "u32": "I", "i64": "q", "u64": "Q"}
FLOATS = {"f32": "f", "f64": "d"}
NARROW = {"i8": (8, 2), "u8": (8, 2), "i24": (24, 4), "u24": (24, 4)}
DIGITS = {"bcd16": 4, "bcd32": 8}

random.seed(11)


def text_length(kind):
    return int(kind.removeprefix("string"))


def part(kind):
    """The bits of a type of which a part counts: the type, the first one and how many."""
    whole, _, bits = kind.partition(":")
    low, _, high = bits.partition("-")
    return "u16" if whole == "bool" else whole, int(low), int(high or low) - int(low) + 1


def roll(kind):
    """A value of the type, at random."""
    if ":" in kind:
        number = random.randrange(1 << part(kind)[2])
        return json.dumps(number == 1) if kind.startswith("bool") else number
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


def ordered(kind, order, data):
    """Registers of big-endian bytes: the words reversed, then the bytes of each swapped."""
    words = [data[n : n + 2] for n in range(0, len(data), 2)]
    if order in ("CDAB", "DCBA") and not kind.startswith("string"):
        words.reverse()
    if order in ("BADC", "DCBA"):
        words = [word[::-1] for word in words]
    return [int.from_bytes(word, "big") for word in words]


def pack(kind, order, value):
    """The registers of a value."""
    if ":" in kind:
        whole, low, _ = part(kind)
        return pack(whole, order, int(json.loads(str(value))) << low)
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
    return ordered(kind, order, data)


def owned(kind, order):
    """The bits of those registers that are the value's: a byte may be left over."""
    if ":" in kind:
        whole, low, count = part(kind)
        return pack(whole, order, (1 << count) - 1 << low)
    size = 2 * len(pack(kind, order, "" if kind.startswith("string") else 0))
    if kind in NARROW:
        data = (b"\xff" * (NARROW[kind][0] // 8)).rjust(size, b"\0")
    elif kind.startswith("string"):
        data = (b"\xff" * text_length(kind)).ljust(size, b"\0")
    else:
        data = b"\xff" * size
    return ordered(kind, order, data)


def unpack(kind, order, words):
    """The value in registers."""
    if ":" in kind:
        whole, low, count = part(kind)
        return unpack(whole, order, words) >> low & (1 << count) - 1
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


def packed(kind, order, value):
    """`WORD ...;MASK ...`: the registers of a value, and the bits of them that are its own."""
    return ";".join(" ".join(map(str, words)) for words in (pack(kind, order, value), owned(kind, order)))
