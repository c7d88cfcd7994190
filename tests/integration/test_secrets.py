"""Secrets on their way from a terminal to the store and back out to nobody: the real command, API and database."""

from __future__ import annotations

import asyncio
import base64
import http.server
import os
import pty
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from installation import Installation, echo
from studiolo.client import AsyncClient
from studiolo.control.access import Access, Account
from studiolo.control.secrets import LIMIT, Secrets
from studiolo.layout import Layout
from studiolo.problem import NotFound, StudioloError, WrongInput
from studiolo.server import problems, secrets
from studiolo.store.database import Store
from studiolo.store.tables import AccountRow

CANARY = "ada:c4n4ry-7f3a91"
Command = Callable[..., Coroutine[Any, Any, "subprocess.CompletedProcess[str]"]]


@dataclass
class Place:
    layout: Layout
    store: Store
    secrets: Secrets
    access: Access
    ada: Account
    bob: Account


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: migrations take two seconds."""
    database = tmp_path_factory.mktemp("store") / "studiolo.db"

    async def make() -> None:
        await (await Store.open(database)).close()

    asyncio.run(make())
    return database


@pytest.fixture
async def place(tmp_path: Path, empty_store: Path) -> AsyncIterator[Place]:
    """Where two people keep secrets."""
    layout = Layout(tmp_path / "home")
    layout.prepare()
    shutil.copy(empty_store, layout.database)
    store = await Store.open(layout.database)
    access = Access(store, layout, lambda: 1000.0)
    ada = await access.first_account("ada")
    await access.keep_local_token(ada)
    async with store.write() as session:
        session.add(AccountRow(id="b0b", name="bob", role="member", created=0.0))
    yield Place(layout, store, Secrets(store, layout), access, ada, Account("b0b", "bob", "member"))
    await store.close()


@pytest.fixture
async def served(place: Place) -> AsyncIterator[Place]:
    """Over the socket that the command and the client talk to."""
    app = FastAPI()
    app.state.house = SimpleNamespace(studio=SimpleNamespace(access=place.access, secrets=place.secrets))
    problems.install(app)
    app.include_router(secrets.router)
    server = uvicorn.Server(uvicorn.Config(app, uds=str(place.layout.control_socket), lifespan="off"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done()
        await asyncio.sleep(0.01)
    yield place
    server.should_exit = True
    await task


@pytest.fixture
def command(served: Place) -> Command:
    """The command, without a terminal."""

    def run(*words: str, stdin: str | bytes = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "studiolo", *words],
            input=stdin if isinstance(stdin, str) else stdin.decode("latin-1"),
            encoding="utf-8" if isinstance(stdin, str) else "latin-1",
            capture_output=True,
            env=environment(served.layout),
            timeout=60,
            check=False,
        )

    async def in_thread(*words: str, stdin: str | bytes = "") -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(run, *words, stdin=stdin)

    return in_thread


def environment(layout: Layout) -> dict[str, str]:
    return {**os.environ, "STUDIOLO_HOME": str(layout.home)}


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_a_value_is_kept_and_shown_to_nobody(
    served: Place, command: Command, caplog: pytest.LogCaptureFixture
) -> None:
    done = await command("secret", "set", "company-index", stdin=f"{CANARY}\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "secret company-index is kept\n", "")
    assert await served.secrets.get(served.ada.id, "company-index") == CANARY
    said = ""
    for words in (("secret", "ls"), ("secret", "ls", "--json"), ("secret", "rm", "company-index")):
        done = await command(*words)
        said += done.stdout + done.stderr
    assert "company-index" in said
    assert "PUT /api/v1/secrets/company-index" in caplog.text
    password = CANARY.partition(":")[2]
    assert password not in said + caplog.text
    assert password.encode() not in everything_in(served.layout.home)
    assert (await command("secret", "rm", "company-index", "--yes")).stdout == "secret company-index is forgotten\n"
    assert "There is none yet" in (await command("secret", "ls")).stderr


async def test_it_is_typed_without_being_seen(served: Place) -> None:
    def type_it() -> tuple[int, str]:
        ours, theirs = pty.openpty()
        words = [sys.executable, "-m", "studiolo", "secret", "set", "typed"]
        with subprocess.Popen(
            words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(served.layout), start_new_session=True
        ) as child:
            os.close(theirs)
            seen = b""
            answered = False
            while piece := _read(ours):
                seen += piece
                if not answered and seen.endswith(b"Value of typed: "):
                    os.write(ours, f"{CANARY}\n".encode())
                    answered = True
            status = child.wait(timeout=60)
        os.close(ours)
        return status, seen.decode()

    status, seen = await asyncio.to_thread(type_it)
    assert status == 0
    assert "secret typed is kept" in seen
    assert CANARY not in seen
    assert await served.secrets.get(served.ada.id, "typed") == CANARY


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""  # the terminal hangs up (EIO) once the command has closed its end


@pytest.mark.parametrize(
    ("name", "stdin", "code", "words"),
    [
        ("Company Index", CANARY, 2, "write company-index"),
        ("../../x", CANARY, 2, "is no name"),
        ("empty", "\n", 2, "the value is empty"),
        ("long", "x" * (LIMIT + 1), 2, "64 KiB is the limit"),
        ("binary", b"\xff\xfe\x00", 2, "no text"),
    ],
)
async def test_what_cannot_be_kept(
    served: Place, command: Command, name: str, stdin: str | bytes, code: int, words: str
) -> None:
    done = await command("secret", "set", name, stdin=stdin)
    assert done.returncode == code
    assert words in done.stderr
    assert CANARY not in done.stderr
    assert await served.secrets.list(served.ada) == []


async def test_the_longest_value_is_kept_whole(served: Place, command: Command) -> None:
    value = "β" * (LIMIT // 2)
    assert (await command("secret", "set", "key", stdin=f"{value}\r\n")).returncode == 0
    assert await served.secrets.get(served.ada.id, "key") == value


async def test_what_is_unknown_cannot_be_forgotten(command: Command) -> None:
    done = await command("secret", "rm", "nothing", "--yes")
    assert done.returncode == 1
    assert done.stderr == "studiolo: there is no secret named nothing\nhint: studiolo secret set nothing\n"


async def test_the_api_says_names_only_and_each_account_its_own(served: Place) -> None:
    await served.secrets.put(served.ada, "shared-name", CANARY)
    token = await served.access.issue(served.bob.id, "api-token", {})
    async with AsyncClient.local(served.layout) as client:
        (found,) = await client.secrets()
        assert set(found.model_dump()) == {"name", "created"}
        with pytest.raises(NotFound):
            await client.delete_secret("../blocks")
    served.layout.token.write_text(token)
    async with AsyncClient.local(served.layout) as client:
        assert await client.secrets() == []
        with pytest.raises(NotFound, match="no secret named shared-name"):
            await client.delete_secret("shared-name")
        await client.put_secret("shared-name", "bob's own")
    assert await served.secrets.get(served.ada.id, "shared-name") == CANARY
    assert await served.secrets.get(served.bob.id, "shared-name") == "bob's own"
    with pytest.raises(NotFound):
        await served.secrets.get("nobody", "shared-name")


async def test_what_is_no_text_is_refused(place: Place) -> None:
    with pytest.raises(WrongInput, match="no text"):
        await place.secrets.put(place.ada, "odd", "\ud800")


async def test_a_problem_with_a_request_does_not_repeat_the_value(served: Place) -> None:
    async with AsyncClient.local(served.layout) as client:
        with pytest.raises(StudioloError) as caught:
            await client.put_secret("x", [CANARY])  # type: ignore[arg-type]
    assert caught.value.problem.where == "value"
    assert CANARY not in str(caught.value)


async def test_the_key_is_private_made_once_and_kept_apart(place: Place) -> None:
    key = place.layout.secret_key
    assert not key.exists()
    await asyncio.gather(*(Secrets(place.store, place.layout).put(place.ada, f"s{n}", f"value {n}") for n in range(8)))
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert [await place.secrets.get(place.ada.id, f"s{n}") for n in range(8)] == [f"value {n}" for n in range(8)]
    assert [path.name for path in key.parent.iterdir() if "secret" in path.name] == ["secret.key"]
    assert key.read_bytes() not in place.layout.database.read_bytes()


async def test_a_store_without_its_key_says_so(place: Place) -> None:
    await place.secrets.put(place.ada, "old", CANARY)
    key = place.layout.secret_key.read_bytes()
    for ruin in (None, b"", b"not a key", b"\xff" * 44):
        place.layout.secret_key.unlink()
        if ruin is not None:
            place.layout.secret_key.write_bytes(ruin)
        with pytest.raises(StudioloError, match="the key that it was encrypted with is gone") as caught:
            await place.secrets.get(place.ada.id, "old")
        assert caught.value.problem.code == "secret-key-missing"
        assert "secret.key" in caught.value.problem.hint
        # What is entered now has a new key; what was there is still said to be lost.
        await place.secrets.put(place.ada, "new", "value")
        assert await place.secrets.get(place.ada.id, "new") == "value"
        with pytest.raises(StudioloError, match="is gone"):
            await place.secrets.get(place.ada.id, "old")
    place.layout.secret_key.write_bytes(key)
    assert await place.secrets.get(place.ada.id, "old") == CANARY
    assert len(list(place.layout.home.glob("secret.key.broken-*"))) == 3


def test_a_private_index_gets_the_log_in_and_nobody_else(tmp_path: Path) -> None:
    """A real installation, and an index that refuses: what goes wrong is written down in many places."""
    installed = Installation(tmp_path / "home")
    installed.up()
    try:
        installed.run("secret", "set", "company", input=CANARY)
        with refusing_index() as (url, seen):
            index = {"url": url, "default": True, "secret": "company"}
            installed.make(
                {"name": "room", "apps": [echo()], "environment": {"packages": ["canary-package"], "indexes": [index]}}
            )
            failed = installed.phase("room", "failed")
            assert f"Basic {base64.b64encode(CANARY.encode()).decode()}" in seen
        assert failed.reason is not None
        said = failed.reason.model_dump_json()
        for words in (("show", "room"), ("show", "room", "--json"), ("logs", "room"), ("ps",), ("status",)):
            said += installed.run(*words).stdout
        with installed.client() as client:
            said += "".join(event.model_dump_json() for event in client.history("room"))
        password = CANARY.partition(":")[2]
        assert password not in said
        assert password.encode() not in everything_in(installed.home)
    finally:
        installed.down()


@contextmanager
def refusing_index() -> Iterator[tuple[str, list[str]]]:
    """A package index that knows nobody: its address, and the log-ins it was shown."""
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("authorization", ""))
            self.send_response(403)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Not among the test's output."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/simple/", seen
        server.shutdown()
        thread.join()
