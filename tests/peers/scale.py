#!/usr/bin/env python3
"""A weighing scale on a pseudo terminal, written without any of fieldgate's code.

    scale.py answer|stream [options]

Prints `path PATH`, the terminal to open. `answer`: each line that comes gets `ST,+   N.5kg`, where N counts the
requests from 1. `stream`: one such line each --interval, unasked. Prints `sent N` after each line that went out.
Runs until stdin ends: then the terminal is gone, as if the adapter had been pulled out.

    --split           each byte on its own
    --garbage         a line of noise before each answer
    --echo            the request comes back before the answer, as on a half-duplex line
    --silent N        the first N requests get no answer
    --late N SECONDS  the first N answers are held back so long
    --paced BAUD      as slow as a line of so many baud, 8N1
    --width N         blanks before the weight make the line so long
    --no-end          lines without an end, for ever
    --interval SECONDS
"""
import argparse
import os
import select
import sys
import time
import tty


def main():
    args = argparse.ArgumentParser()
    args.add_argument("mode", choices=["answer", "stream"])
    args.add_argument("--split", action="store_true")
    args.add_argument("--garbage", action="store_true")
    args.add_argument("--echo", action="store_true")
    args.add_argument("--no-end", action="store_true")
    args.add_argument("--paced", type=int, default=0)
    args.add_argument("--width", type=int, default=0)
    args.add_argument("--silent", type=int, default=0)
    args.add_argument("--late", nargs=2, type=float, default=(0, 0))
    args.add_argument("--interval", type=float, default=0.02)
    args = args.parse_args()

    master, slave = os.openpty()
    tty.setraw(slave)
    # The slave end stays open here, so that the gateway may come and go.
    say(f"path {os.ttyname(slave)}")

    count = 0
    pending = b""
    last = time.monotonic()
    while True:
        wait = args.interval if args.mode == "stream" else None
        ready, _, _ = select.select([master, sys.stdin], [], [], wait)
        if sys.stdin in ready and not os.read(0, 1024):
            return
        if master in ready:
            pending += os.read(master, 1024)
        if args.mode == "answer":
            while b"\n" in pending:
                request, pending = pending.split(b"\n", 1)
                count += 1
                if count <= args.silent:
                    continue
                if count <= args.late[0]:
                    time.sleep(args.late[1])
                if args.echo:
                    send(master, request + b"\n", False)
                answer(master, count, args)
        elif time.monotonic() - last >= args.interval:
            last = time.monotonic()
            count += 1
            answer(master, count, args)


def answer(master, count, args):
    if args.garbage:
        send(master, b"\x00\xff?ST,broken\r\n", args.split)
    end = b"" if args.no_end else b"\r\n"
    weight = b"%4d.5kg" % count + end
    line = b"ST,+" + weight.rjust(args.width - 4)
    if args.paced:
        begun = time.monotonic()
        for n, byte in enumerate(line, 1):
            time.sleep(max(0, begun + n * 10 / args.paced - time.monotonic()))
            send(master, bytes([byte]), False)
    else:
        send(master, line, args.split)
    say(f"sent {count}")


def send(master, line, split):
    """Drops what a full terminal does not take, as a serial line would."""
    for part in [line[i : i + 1] for i in range(len(line))] if split else [line]:
        if select.select([], [master], [], 0)[1]:
            os.write(master, part)
        if split:
            time.sleep(0.001)


def say(line):
    print(line, flush=True)


main()
