#!/usr/bin/env python3
"""An HTTP proxy that knows CONNECT and nothing else, written without any of fieldgate's code.

    proxy.py [--user NAME:PASSWORD] [--only PORT]

Prints `listening PORT`, and for each request `asked LINE` and `answered CODE`. With --user, others get 407; with --only,
other ports of the target get 403. Ends with its stdin.
"""
import argparse
import base64
import socket
import sys
import threading


def carry(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(client, args):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = client.recv(1)
        if not byte:
            return
        head += byte
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    print("asked", first, flush=True)
    method, target, version = first.split(" ")
    host, _, port = target.rpartition(":")
    expected = args.user and "Basic " + base64.b64encode(args.user.encode()).decode()
    if method != "CONNECT" or version != "HTTP/1.1" or headers.get("host") != target:
        code, reason = 400, "Bad Request"
    elif expected and headers.get("proxy-authorization") != expected:
        code, reason = 407, "Proxy Authentication Required"
    elif args.only and int(port) != args.only:
        code, reason = 403, "Forbidden"
    else:
        code, reason = 200, "Connection established"
    print("answered", code, flush=True)
    if code != 200:
        client.sendall(f"HTTP/1.1 {code} {reason}\r\nContent-Length: 0\r\n\r\n".encode())
        client.close()
        return
    try:
        server = socket.create_connection((host.strip("[]"), int(port)))
    except OSError:
        client.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
        client.close()
        return
    client.sendall(b"HTTP/1.1 200 Connection established\r\nVia: a test\r\n\r\n")
    threading.Thread(target=carry, args=(server, client), daemon=True).start()
    carry(client, server)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--user")
    args.add_argument("--only", type=int)
    args = args.parse_args()
    listener = socket.create_server(("127.0.0.1", 0))
    print("listening", listener.getsockname()[1], flush=True)

    def accept():
        while True:
            client, _ = listener.accept()
            threading.Thread(target=serve, args=(client, args), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()


main()
