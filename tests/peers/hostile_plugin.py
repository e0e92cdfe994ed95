#!/usr/bin/env python3
"""A plugin that does what no plugin may, each in its own way; the first argument names it.

Every answer that is believed holds 7 for a point, or the number that its address is.
"""
import json
import os
import signal
import subprocess
import sys
import threading
import time

MODE = sys.argv[1]


def say(text):
    sys.stdout.write(text)
    sys.stdout.flush()


def value(point):
    return int(point["address"]) if point["address"].isdigit() else 7


def good(request):
    points = request["read"]["points"]
    samples = [{"point": point["id"], "value": value(point)} for point in points]
    return json.dumps({"id": request["id"], "ok": {"samples": samples}}) + "\n"


def forever(write):
    while True:
        write()


def spawn_sleepers():
    # Each holds the plugin's stdout and stderr, and hears nothing.
    code = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL)
        print("sleeper", child.pid, file=sys.stderr, flush=True)


# What is said instead of an answer: {id} is the number of the request, "v" the point.
LIES = [
    '{{"id":{id},"ok":{{"samples":[{{"point":"other","value":666}}]}}}}',
    '{{"id":{id},"ok":{{"samples":[{{"point":"v","value":"666"}}]}}}}',
    '{{"id":{id},"ok":{{"samples":[{{"point":"v","value":true}}]}}}}',
    '{{"id":{id},"ok":{{"samples":[{{"point":"v","value":[666]}}]}}}}',
    '{{"id":{id},"ok":{{"samples":[{{"point":"v","value":NaN}}]}}}}',
    '{{"id":{id},"ok":{{"samples":[{{"point":"v","value":6.66}}]}}}}',
    '{{"id":{id},"ok":{{"samples":[{{"point":"v","value":666,"value":666}}]}}}}',
    '{{"id":{id},"id":{id},"ok":{{"samples":[{{"point":"v","value":666}}]}}}}',
    '{{"id":{id},"ok":{{"samples":[{{"point":"v","value":666}},{{"point":"v","value":666}}]}}}}',
    '{{"id":{id},"ok":{{"samples":[{{"point":"v","value":1e999}}]}}}}',
    '{{"id":{id},"ok":{{"samples":[{{"point":"v","value":' + "9" * 5000 + "}}]}}}}",
    '{{"id":{id},"ok":{{"samples":[]}}}}',
    '{{"id":{id},"ok":{{"samples":[{{"point":"v","value":666}}]}},"error":{{"scope":"device","code":"x"}}}}',
    '{{"id":{id},"ok":{{"samples":[{{"point":"v","value":666',
    '{{"id":{id},"error":{{"scope":"device","code":"exception-6"}}}}',
    '{{"id":"{id}","ok":{{"samples":[{{"point":"v","value":666}}]}}}}',
    '{{"ok":{{"samples":[{{"point":"v","value":666}}]}}}}',
    "debug: about to answer request {id}",
    "",
    "[" * 50000,
    "\x00\x01\x02",
]


def main():
    if MODE == "dies-at-start":
        sys.exit("there is no device")
    if MODE == "stderr":
        threading.Thread(target=forever, args=(lambda: os.write(2, b"noise " * 100 + b"\n"),), daemon=True).start()
    if MODE == "stderr-line":
        threading.Thread(target=forever, args=(lambda: os.write(2, b"x" * 65536),), daemon=True).start()
    if MODE in ("stubborn", "forks"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        spawn_sleepers()
    if MODE == "spins":
        threading.Thread(target=forever, args=(lambda: None,), daemon=True).start()
    count = 0
    for line in sys.stdin:
        request = json.loads(line)
        if "open" in request:
            say(json.dumps({"id": request["id"], "ok": {}}) + "\n")
            continue
        count += 1
        if MODE == "hangs":
            time.sleep(600)
        elif MODE == "deaf":
            # One byte a second of what a long request has.
            while True:
                os.read(0, 1)
                time.sleep(1)
        elif MODE == "dies":
            os._exit(3)
        elif MODE == "crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif MODE == "closes":
            os.close(1)
            time.sleep(600)
        elif MODE == "forks":
            os._exit(0)
        elif MODE == "endless-line":
            forever(lambda: os.write(1, b"x" * 65536))
        elif MODE == "old-answers":
            old = b'{"id":0,"ok":{"samples":[{"point":"v","value":666}]}}\n' * 500
            forever(lambda: os.write(1, old))
        elif MODE == "big-answers":
            old = b'{"id":0,"ok":"' + b"x" * 100000 + b'"}\n'
            forever(lambda: os.write(1, old))
        elif MODE == "eats":
            hoard = []
            forever(lambda: hoard.append(bytearray(16 << 20)))
        elif MODE == "early":
            say(good(request).replace(":7}", ":666}").replace('"id": %d' % request["id"], '"id": %d' % (request["id"] + 1)))
        elif MODE == "twice":
            say(good(request) + good(request).replace(":7}", ":666}").replace(": 7}", ": 666}"))
        elif MODE == "late" and count % 3 == 0:
            time.sleep(0.8)
            say(good(request))
        elif MODE == "lies" and count % 2 == 0:
            say(LIES[count // 2 % len(LIES)].format(id=request["id"]) + "\n")
        elif MODE == "shows":
            found = {
                "environment": " ".join(sorted(os.environ)),
                "open": " ".join(sorted(os.listdir("/proc/self/fd"), key=int)),
                "folder": os.getcwd(),
                "nice": str(os.nice(0)),
            }
            samples = [{"point": p["id"], "value": found[p["address"]]} for p in request["read"]["points"]]
            say(json.dumps({"id": request["id"], "ok": {"samples": samples}}) + "\n")
            os._exit(0)
        elif MODE == "slow-write" and "write" in request:
            time.sleep(8)
            print("written", file=sys.stderr, flush=True)
        elif "write" in request:
            # As often as it is asked; the value is one too many.
            say(json.dumps({"id": request["id"], "ok": {"value": request["write"]["value"] + 1}}) + "\n")
        else:
            say(good(request))
    if MODE == "stubborn":
        time.sleep(600)


main()
