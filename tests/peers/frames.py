#!/usr/bin/env python3
"""Devices that send frames of every kind on pseudo terminals, written without any of fieldgate's code.

Reads a JSON object a line and answers each with a line:

    {"open": SPEC}     `ready PATH`: a new terminal with a device; the one before it is unplugged
    {"settings": 1}    `settings CFLAG SPEED` of the terminal, as the last program that opened it set them
    {"sent": 1}        `sent N DAMAGED`: frames sent so far, and how many of them were damaged

Frame N carries the count N and an echo, N * 1000003 + 7, so that a value of another frame shows. SPEC:

    frame      the keys of fieldgate's `frame`, marks in hexadecimal
    content    text, json, csv or bytes
    stream     seconds between frames that nobody asked for; without it each request gets one
    requests   the request, in hexadecimal
    damage     every so many frames a bit of one byte is flipped
    noise      hexadecimal bytes before each frame, and the pause between them and the frame in seconds
    split      every byte by itself, with a short pause
"""
import array
import fcntl
import json
import os
import random
import select
import struct
import sys
import time
import tty

TCGETS2 = 0x802C542A
HEADER = 8


def crc16(data, poly, value, reflected):
    for byte in data:
        if reflected:
            value ^= byte
            for _ in range(8):
                value = (value >> 1) ^ (poly if value & 1 else 0)
        else:
            value ^= byte << 8
            for _ in range(8):
                value = ((value << 1) ^ (poly if value & 0x8000 else 0)) & 0xFFFF
    return value


def xor(data):
    value = 0
    for byte in data:
        value ^= byte
    return value


SUMS = {
    "crc16-modbus": lambda data: struct.pack("<H", crc16(data, 0xA001, 0xFFFF, True)),
    "crc16-ccitt": lambda data: struct.pack(">H", crc16(data, 0x1021, 0xFFFF, False)),
    "crc16-xmodem": lambda data: struct.pack(">H", crc16(data, 0x1021, 0, False)),
    "crc16-kermit": lambda data: struct.pack("<H", crc16(data, 0x8408, 0, True)),
    "sum8": lambda data: bytes([sum(data) & 0xFF]),
    "xor8": lambda data: bytes([xor(data)]),
    "lrc": lambda data: bytes([-sum(data) & 0xFF]),
}


class Device:
    def __init__(self, spec):
        self.spec = spec
        self.frame = spec["frame"]
        self.request = bytes.fromhex(spec.get("request", ""))
        self.sent = self.damaged = 0
        self.pending = b""
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        self.next = time.monotonic()
        self.random = random.Random(7)

    def close(self):
        os.close(self.master)
        os.close(self.slave)

    def settings(self):
        buffer = array.array("B", bytes(44))
        fcntl.ioctl(self.slave, TCGETS2, buffer)
        fields = struct.unpack("=4I20sII", buffer.tobytes())
        return f"settings {fields[2]} {fields[6]}"

    def content(self, count):
        echo = count * 1000003 + 7
        kind = self.spec["content"]
        if kind == "json":
            return b'{"id":"x","v":{"count":%d,"list":[null,%d]}}' % (count, echo)
        header = b"." * HEADER if self.has_header() else b""
        if kind == "text":
            return header + b"C=%d E=%d." % (count, echo)
        if kind == "csv":
            return header + b'"a",%d,%d ,z' % (count, echo)
        # The bytes of these numbers are never those of a mark.
        return b"\0" * HEADER + struct.pack(">I", count) + struct.pack("<Q", echo) + bytes([(count & 1) << 6])

    def has_header(self):
        return "length_at" in self.frame or ("length" in self.frame and "start" in self.frame)

    def wire(self, count):
        frame = self.frame
        start = bytes.fromhex(frame.get("start", ""))
        end = bytes.fromhex(frame.get("end", ""))
        mark = bytes.fromhex(frame.get("checksum_mark", ""))
        body = self.content(count)
        check = SUMS[frame["checksum"]] if "checksum" in frame else lambda data: b""
        digits = (lambda data: check(data).hex().upper().encode()) if frame.get("checksum_hex") else check
        behind = len(mark) + len(digits(b""))
        if "end" in frame:
            body = start + body
        elif "length" in frame:
            body = body.ljust(frame["length"] - behind, b"\0" if self.spec["content"] == "bytes" else b" ")
            body = start + body[len(start):]
        elif "length_at" in frame:
            at, size = frame["length_at"], frame.get("length_size", 1)
            follow = len(body) + behind - at - size - frame.get("length_adds", 0)
            number = follow.to_bytes(size, frame.get("length_order", "big"))
            body = start + body[len(start):]
            body = body[:at] + number + body[at + size:]
        if frame.get("checksum_after_end"):
            body += end
            end = b""
        return body + mark + digits(body[frame.get("checksum_from", 0):]) + end

    def send(self):
        self.sent += 1
        wire = bytearray(self.wire(self.sent))
        if self.spec.get("damage") and self.sent % self.spec["damage"] == 0:
            self.damaged += 1
            wire[self.random.randrange(len(wire))] ^= 1 << self.random.randrange(8)
        if "noise" in self.spec:
            noise, pause = self.spec["noise"]
            os.write(self.master, bytes.fromhex(noise))
            time.sleep(pause)
        for part in [wire[i : i + 1] for i in range(len(wire))] if self.spec.get("split") else [wire]:
            # A full terminal loses it, as a serial line would.
            if select.select([], [self.master], [], 0)[1]:
                os.write(self.master, bytes(part))
            if self.spec.get("split"):
                time.sleep(0.001)

    def wait(self):
        return max(0, self.next - time.monotonic()) if "stream" in self.spec else None

    def turn(self, readable):
        if readable:
            self.pending += os.read(self.master, 1024)
            while self.request and self.request in self.pending:
                self.pending = self.pending.split(self.request, 1)[1]
                self.send()
        if "stream" in self.spec and time.monotonic() >= self.next:
            self.next = time.monotonic() + self.spec["stream"]
            self.send()


def main():
    device = None
    lines = b""
    while True:
        files = [0] + ([device.master] if device else [])
        ready = select.select(files, [], [], device.wait() if device else None)[0]
        if device:
            device.turn(device.master in ready)
        if 0 not in ready:
            continue
        more = os.read(0, 65536)
        if not more:
            return
        lines += more
        while b"\n" in lines:
            line, lines = lines.split(b"\n", 1)
            order = json.loads(line)
            if "open" in order:
                if device:
                    device.close()
                device = Device(order["open"])
                say(f"ready {os.ttyname(device.slave)}")
            elif "settings" in order:
                say(device.settings())
            else:
                say(f"sent {device.sent} {device.damaged}")


def say(line):
    print(line, flush=True)


main()
