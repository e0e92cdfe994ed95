"""Says what registers mean and how values are written, by Python's struct, decimal and fractions alone.

Prints `ready -`, then answers each line of JSON on its standard input with one line. A point has `kind`, `order`, `bits`
([low, high] or null), `bit`, `length`, `scale`, `offset` (texts), `invalid` (whole numbers) and `values` (number to name).

    {"decode": POINT, "words": [..], "text": T}   `ok` where T, the value as JSON or `bad:REASON`, is right; else what is
    {"encode": POINT, "json": T}                  the words as a list, or `refused`
"""

import json
import re
import struct
import sys
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from fractions import Fraction

SIZES = {
    "bool": 2, "i8": 2, "u8": 2, "i16": 2, "u16": 2, "bcd16": 2, "i24": 4, "u24": 4, "i32": 4, "u32": 4, "f32": 4,
    "bcd32": 4, "i64": 8, "u64": 8, "f64": 8,
}
BITS = {kind: int(kind.strip("bcdiuf")) for kind in SIZES if kind != "bool"}
MANTISSA = 2**96 - 1


def swap(data):
    return b"".join(data[at : at + 2][::-1] for at in range(0, len(data), 2))


def ordered(point, data):
    """From the wire to the most significant byte first, or back: every order is its own inverse."""
    order = point["order"]
    if order in ("BADC", "DCBA"):
        data = swap(data)
    if order in ("CDAB", "DCBA") and point["kind"] != "string":
        data = b"".join(data[at : at + 2] for at in range(len(data) - 2, -1, -2))
    return data


def places(number):
    return max(0, -number.normalize().as_tuple().exponent)


def is_plain(point):
    return Decimal(point["scale"]) == 1 and Decimal(point["offset"]) == 0


def scaled(point, raw):
    return raw * Decimal(point["scale"]) + Decimal(point["offset"])


def digits(nibbles):
    """The number that hexadecimal digits spell, if all of them are decimal."""
    return int(nibbles) if nibbles.isdigit() else None


def decode_integer(point, data):
    kind, bits = point["kind"], point["bits"]
    width = BITS[kind]
    whole = int.from_bytes(data, "big") % 2**width
    signed = struct.unpack(">q", struct.pack(">Q", whole << (64 - width)))[0] >> (64 - width)
    is_bcd = kind.startswith("bcd")
    field = whole
    if bits:
        low, high = bits
        field = whole >> low & (2 ** (high - low + 1) - 1)
    if is_bcd:
        number = digits(f"{field:x}")
    else:
        number = signed if kind.startswith("i") and not bits else field
    field_width = bits[1] - bits[0] + 1 if bits else width
    largest = 2**field_width - 1
    if is_bcd:
        largest = int(f"{min(9, 2 ** (field_width % 4) - 1)}" + "9" * (field_width // 4))
    for sentinel in point["invalid"]:
        if (bits or is_bcd) and 0 <= sentinel <= largest:
            if number == sentinel:
                return "bad:invalid"
        elif sentinel in (whole, signed):
            return "bad:invalid"
    if number is None:
        return "bad:invalid"
    names = {int(key): name for key, name in point["values"].items()}
    for reading in (number, whole if not bits else number):
        if reading in names:
            return json.dumps(names[reading], ensure_ascii=False)
    if is_plain(point):
        return str(number)
    value = scaled(point, number)
    decimals = places(Decimal(point["scale"]))
    decimals = max(decimals, places(Decimal(point["offset"])))
    mantissa = int(value.scaleb(decimals))
    while mantissa and abs(mantissa) > MANTISSA and mantissa % 10 == 0 and decimals:
        mantissa, decimals = mantissa // 10, decimals - 1
    if abs(mantissa) > MANTISSA:
        return "bad:invalid"
    return f"{Decimal(mantissa).scaleb(-decimals):f}"


def decode_float(point, data, text):
    form = ">f" if point["kind"] == "f32" else ">d"
    number = struct.unpack(form, data)[0]
    bits = int.from_bytes(data, "big")
    signed = int.from_bytes(data, "big", signed=True)
    if any(sentinel in (bits, signed) or sentinel == number for sentinel in point["invalid"]):
        return "bad:invalid"
    if number != number or number in (float("inf"), float("-inf")):
        return "bad:not-a-number"
    exact = scaled(point, Decimal(number))
    if abs(exact) > Decimal(sys.float_info.max):
        return "bad:invalid"
    if text.startswith("bad:"):
        return repr(number)
    if not is_plain(point):
        # A float is known to half of its last place, and so is what is made of it.
        places, least = (-23, -149) if form == ">f" else (-52, -1074)
        slack = abs(Decimal(point["scale"])) * (abs(Decimal(number)) * Decimal(2) ** places + Decimal(2) ** least)
        slack += abs(exact) * Decimal(2) ** -51 + Decimal(2) ** -1074
        return text if abs(Decimal(text) - exact) <= slack else str(exact)
    # The same float again, and no shorter text would do.
    if struct.pack(form, float(text)) != data:
        return repr(number)
    used = len(re.sub(r"e.*|[-.]", "", text.lower()).strip("0"))
    shortest = next(n for n in range(1, 18) if struct.pack(form, float(f"%.{n}g" % number)) == data)
    return text if used <= shortest else f"%.{shortest}g" % number


def decode(point, words, text):
    kind = point["kind"]
    data = ordered(point, struct.pack(f">{len(words)}H", *words))
    if kind == "bool":
        return json.dumps(bool(int.from_bytes(data, "big") >> point["bit"] & 1))
    if kind == "string":
        data = data[: point["length"]].split(b"\0")[0]
        try:
            return data.decode().rstrip(" ")
        except UnicodeDecodeError:
            return "bad:malformed"
    if kind in ("f32", "f64"):
        return decode_float(point, data, text)
    return decode_integer(point, data)


def nearest_float(form, wanted):
    """The float nearest to a fraction; of two equally near ones that with the even last bit."""
    try:
        start = int.from_bytes(struct.pack(form, float(wanted)), "big")
    except OverflowError:
        return None
    size = struct.calcsize(form)
    top = 1 << (size * 8)
    known = []
    for bits in (start - 1, start, start + 1):
        number = struct.unpack(form, (bits % top).to_bytes(size, "big"))[0]
        if number == number and abs(number) != float("inf"):
            known.append((abs(Fraction(number) - wanted), bits % 2, bits % top))
    return min(known)[2].to_bytes(size, "big")


def encode(point, text):
    kind = point["kind"]
    size = SIZES.get(kind)
    value = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    if kind == "bool":
        return (int(value) << point["bit"]).to_bytes(2, "big") if isinstance(value, bool) else None
    if kind == "string":
        data = value.encode() if isinstance(value, str) else None
        if data is None or len(data) > point["length"] or b"\0" in data:
            return None
        return data.ljust((point["length"] + 1) // 2 * 2, b"\0")
    if kind in ("f32", "f64"):
        if not isinstance(value, Decimal):
            return None
        wanted = (Fraction(value) - Fraction(point["offset"])) / Fraction(point["scale"])
        data = nearest_float(">f" if kind == "f32" else ">d", wanted)
        is_good = data and decode(point, struct.unpack(f">{size // 2}H", ordered(point, data)), "0") != "bad:invalid"
        return data if is_good else None
    low, high = point["bits"] or (0, BITS[kind] - 1)
    if isinstance(value, str):
        raw = next((int(key) for key, name in point["values"].items() if name == value), None)
        if raw is None:
            return None
        if kind.startswith("i") and not point["bits"] and raw >= 2 ** (BITS[kind] - 1):
            raw -= 2 ** BITS[kind]
    elif isinstance(value, Decimal):
        if is_plain(point) and value != value.to_integral_value():
            return None
        raw = (value - Decimal(point["offset"])) / Decimal(point["scale"])
        raw = int(raw.to_integral_value(rounding=ROUND_HALF_UP))
    else:
        return None
    width = high - low + 1
    if kind.startswith("bcd"):
        pattern = int(str(raw), 16) if raw >= 0 else None
        if pattern is None or pattern >= 2**width:
            return None
    elif kind.startswith("i") and not point["bits"]:
        if not -(2 ** (width - 1)) <= raw < 2 ** (width - 1):
            return None
        pattern = raw % 2**width
    elif 0 <= raw < 2**width:
        pattern = raw
    else:
        return None
    data = (pattern << low).to_bytes(size, "big")
    # What could not be read back is not written; a name needs no number.
    bare = {"values": {}, "scale": "1", "offset": "0"} if isinstance(value, str) else {"values": {}}
    return None if decode_integer({**point, **bare}, data) == "bad:invalid" else data


def answer(ask):
    if "decode" in ask:
        told = decode(ask["decode"], ask["words"], ask["text"])
        text = ask["text"]
        if ask["decode"]["kind"] == "string" and not text.startswith("bad:"):
            text = json.loads(text)
        return "ok" if told == text else told
    data = encode(ask["encode"], ask["json"])
    if data is None:
        return "refused"
    data = ordered(ask["encode"], data)
    return json.dumps(list(struct.unpack(f">{len(data) // 2}H", data)))


print("ready -", flush=True)
with localcontext(Context(prec=2500, Emax=999999, Emin=-999999)):
    for line in sys.stdin:
        print(answer(json.loads(line)).replace("\n", "\\n"), flush=True)
