"""Runs cells in kernels of a workspace's JupyterLab, as its page does: over the server's API and its WebSocket."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from websockets.sync.client import ClientConnection, unix_connect

PATIENCE = 60.0


@dataclass
class Said:
    """What became of a request: `error` is empty where it went well."""

    reply: dict[str, Any] = field(default_factory=dict)
    printed: str = ""
    result: str = ""
    error: str = ""
    states: list[str] = field(default_factory=list)


@dataclass
class Kernel:
    socket: Path
    id: str

    def run(self, code: str, typed: str | None = None) -> Said:
        """A cell. `typed` is what is typed where it asks for input."""
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": typed is not None}
        with self.listening() as channel:
            said = hear(channel, say(channel, "execute_request", content), typed)
        assert not said.error, said.error
        return said

    def value(self, expression: str) -> Any:
        """What an expression is, by way of JSON."""
        return json.loads(self.run(f"import json as _json; print(_json.dumps({expression}))").printed)

    def ask(self, kind: str, content: dict[str, Any]) -> dict[str, Any]:
        """A request on the control channel, and its reply's content."""
        with self.listening() as channel:
            return hear(channel, say(channel, kind, content, "control")).reply

    @contextmanager
    def listening(self) -> Iterator[ClientConnection]:
        path = f"ws://localhost/api/kernels/{self.id}/channels?session_id={uuid.uuid4().hex}"
        with unix_connect(str(self.socket), path, max_size=None, open_timeout=PATIENCE) as channel:
            yield channel

    def restart(self) -> None:
        self._post("restart", 200)

    def interrupt(self) -> None:
        self._post("interrupt", 204)

    def shut_down(self) -> None:
        with client(self.socket) as server:
            assert server.delete(f"/api/kernels/{self.id}").status_code == 204

    def _post(self, what: str, status: int) -> None:
        with client(self.socket) as server:
            answer = server.post(f"/api/kernels/{self.id}/{what}")
        assert answer.status_code == status, answer.text


def client(socket: Path) -> httpx2.Client:
    transport = httpx2.HTTPTransport(uds=str(socket))
    return httpx2.Client(transport=transport, base_url="http://localhost", timeout=PATIENCE)


def start(socket: Path, name: str = "python3", path: str = "") -> Kernel:
    """A new kernel, in a folder relative to the server's."""
    with client(socket) as server:
        made = server.post("/api/kernels", json={"name": name, "path": path})
    assert made.status_code == 201, made.text
    return Kernel(socket, str(made.json()["id"]))


@contextmanager
def a_kernel(socket: Path, path: str = "") -> Iterator[Kernel]:
    kernel = start(socket, path=path)
    yield kernel
    kernel.shut_down()


def say(channel: ClientConnection, kind: str, content: dict[str, Any], on: str = "shell", parent: Any = None) -> str:
    """Send a message; returns its id."""
    identity = uuid.uuid4().hex
    header = {"msg_id": identity, "msg_type": kind, "username": "", "session": "s", "version": "5.3", "date": ""}
    message = {"header": header, "parent_header": parent or {}, "metadata": {}, "content": content, "channel": on}
    channel.send(json.dumps({**message, "buffers": []}))
    return identity


def hear(channel: ClientConnection, request: str, typed: str | None = None) -> Said:
    """Until the request has been answered and the kernel is idle again."""
    said = Said()
    while not (said.reply and said.states[-1:] == ["idle"]):
        message = json.loads(channel.recv(PATIENCE))
        if message["parent_header"].get("msg_id") != request:
            continue
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            said.printed += content["text"]
        elif kind == "execute_result":
            said.result = content["data"]["text/plain"]
        elif kind == "error":
            said.error = f"{content['ename']}: {content['evalue']}"
        elif kind == "status":
            said.states.append(content["execution_state"])
        elif kind == "input_request":
            say(channel, "input_reply", {"value": typed}, "stdin", message["header"])
        elif kind.endswith("_reply"):
            said.reply = {"status": "ok", **content}
    return said
