"""A small real HTTP app for the conformance suite, on the standard library alone.

`python server.py (--socket PATH | --port N) [--after SECONDS] [--behave WHAT]`. It answers with JSON about itself, and
does what a path asks of it: `/exit/3`, `/eat/<MiB>`, `/spin`, `/print/<text>`, `/fill/<MiB>`, `/daemon`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

PARSER = argparse.ArgumentParser()
PARSER.add_argument("--socket")
PARSER.add_argument("--port", type=int)
PARSER.add_argument("--after", type=float, default=0.0, help="seconds before it listens")
PARSER.add_argument("--behave", default="", help="never-ready, deaf (to SIGTERM), daemon, exit-<status>")
KEPT: list[bytearray] = []


class Handler(BaseHTTPRequestHandler):
    def address_string(self) -> str:
        return "socket"

    def do_GET(self) -> None:
        words = self.path.strip("/").split("/")
        reply: object = None
        match words:
            case ["exit", status]:
                os._exit(int(status))
            case ["eat", amount]:
                KEPT.append(bytearray(os.urandom(1 << 20) * int(amount)))
            case ["spin"]:
                threading.Thread(target=_spin, daemon=True).start()
            case ["print", text]:
                print(text, flush=True)
            case ["fill", amount]:
                for number in range(int(amount) * 1024):
                    print(f"{number:08d}".ljust(1023, "."))
                print("filled", flush=True)
            case ["daemon"]:
                reply = daemon()
            case _:
                reply = {"pid": os.getpid(), "env": dict(os.environ), "cwd": str(Path.cwd()), "sid": os.getsid(0)}
        code = 503 if OPTIONS.behave == "never-ready" else 200
        body = json.dumps(reply).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class UnixServer(socketserver.ThreadingUnixStreamServer):
    request_queue_size = 64
    daemon_threads = True


class PortServer(socketserver.ThreadingTCPServer):
    request_queue_size = 64
    daemon_threads = True
    allow_reuse_address = True


def _spin() -> None:
    while True:
        sum(range(1000))


def daemon() -> int:
    """Fork twice, leave the session and forget the environment, as a real daemon does; returns its pid."""
    near, far = socket.socketpair()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            far.sendall(str(os.getpid()).encode())
            for descriptor in range(3):
                os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.execve(sys.executable, ["studiolo-test-daemon", "-c", "import signal; signal.pause()"], dict(os.environ))
        os._exit(0)
    os.wait()
    return int(near.recv(16))


def main() -> None:
    print("begins", flush=True)
    print(f"port {OPTIONS.port}" if OPTIONS.port else "socket", file=sys.stderr, flush=True)
    if OPTIONS.behave.startswith("exit-"):
        print("cannot go on", flush=True)
        sys.exit(int(OPTIONS.behave.removeprefix("exit-")))
    if OPTIONS.behave == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if OPTIONS.behave == "daemon":
        print(f"daemon {daemon()}", flush=True)
    time.sleep(OPTIONS.after)
    server = UnixServer(OPTIONS.socket, Handler) if OPTIONS.socket else PortServer(("127.0.0.1", OPTIONS.port), Handler)
    server.serve_forever()


if __name__ == "__main__":
    OPTIONS = PARSER.parse_args()
    main()
