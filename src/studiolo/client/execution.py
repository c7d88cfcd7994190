"""A program run inside a workspace, over a WebSocket: its input, its output as it comes, and how it ended."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import ValidationError

from studiolo.client.address import PREFIX, Address
from studiolo.client.call import described, failure
from studiolo.client.paths import workspace_path
from studiolo.problem import Problem, Unavailable
from studiolo.resources import ProblemDetails

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection as AsyncConnection
    from websockets.sync.client import ClientConnection

_MESSAGE_LIMIT = 16 * 2**20


@dataclass(frozen=True)
class Output:
    """A piece of what the program printed: stream 1 is stdout, 2 is stderr."""

    stream: Literal[1, 2]
    data: bytes


@dataclass(frozen=True)
class Exchange:
    """What is said over the connection, without the connection."""

    address: Address
    ref: str
    argv: tuple[str, ...]
    tty: tuple[int, int] | None

    @property
    def url(self) -> str:
        scheme, _, rest = self.address.url.partition("://")
        return f"{'wss' if scheme == 'https' else 'ws'}://{rest}{PREFIX}{workspace_path(self.ref, 'exec')}"

    @property
    def options(self) -> dict[str, Any]:
        return {"additional_headers": self.address.headers, "max_size": _MESSAGE_LIMIT, "compression": None}

    @property
    def opening(self) -> str:
        return json.dumps({"argv": self.argv, "tty": self.tty})

    @staticmethod
    def resize(columns: int, rows: int) -> str:
        return json.dumps({"resize": [columns, rows]})

    @staticmethod
    def read(message: str | bytes) -> Output | int:
        """A piece of output, or the exit status, which is the last word. Raises what the server reports."""
        if isinstance(message, bytes):
            return Output(2 if message[:1] == b"\x02" else 1, message[1:])
        try:
            word = json.loads(message)
            if "problem" in word:
                raise described(ProblemDetails.model_validate(word["problem"]))
            return int(word["exit"])
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            raise _cut_off() from error


class Execution:
    """Iterate for output; afterwards `status` is the exit status. `write` and `resize` may come from another thread."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._open = contextlib.ExitStack()
        self.status: int | None = None
        """None until the program has ended."""

    def __enter__(self) -> Self:
        from websockets.sync.client import connect, unix_connect

        exchange, socket = self._exchange, self._exchange.address.socket
        with _in_our_words(exchange.address):
            self._connection: ClientConnection = self._open.enter_context(
                unix_connect(str(socket), exchange.url, **exchange.options)
                if socket is not None
                else connect(exchange.url, **exchange.options)
            )
            self._connection.send(exchange.opening)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def __iter__(self) -> Iterator[Output]:
        while self.status is None:
            with _in_our_words(self._exchange.address):
                message = self._connection.recv()
            said = self._exchange.read(message)
            if isinstance(said, Output):
                yield said
            else:
                self.status = said

    def write(self, data: bytes) -> None:
        """Send to its standard input; empty bytes close it. Nothing happens where it has ended."""
        with _ended_already():
            self._connection.send(data)

    def resize(self, columns: int, rows: int) -> None:
        with _ended_already():
            self._connection.send(self._exchange.resize(columns, rows))


class AsyncExecution:
    """Iterate for output; afterwards `status` is the exit status."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.status: int | None = None
        """None until the program has ended."""

    async def __aenter__(self) -> Self:
        from websockets.asyncio.client import connect, unix_connect

        exchange, socket = self._exchange, self._exchange.address.socket
        with _in_our_words(exchange.address):
            self._connection: AsyncConnection = await (
                unix_connect(str(socket), exchange.url, **exchange.options)
                if socket is not None
                else connect(exchange.url, **exchange.options)
            )
            await self._connection.send(exchange.opening)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._connection.close()

    async def __aiter__(self) -> AsyncIterator[Output]:
        while self.status is None:
            with _in_our_words(self._exchange.address):
                message = await self._connection.recv()
            said = self._exchange.read(message)
            if isinstance(said, Output):
                yield said
            else:
                self.status = said

    async def write(self, data: bytes) -> None:
        """Send to its standard input; empty bytes close it. Nothing happens where it has ended."""
        with _ended_already():
            await self._connection.send(data)

    async def resize(self, columns: int, rows: int) -> None:
        with _ended_already():
            await self._connection.send(self._exchange.resize(columns, rows))


@contextlib.contextmanager
def _in_our_words(address: Address) -> Iterator[None]:
    from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

    try:
        yield
    except InvalidStatus as error:
        raise failure(error.response.status_code, bytes(error.response.body or b"")) from None
    except (OSError, InvalidHandshake, TimeoutError):
        raise address.unreachable() from None
    except ConnectionClosed:
        raise _cut_off() from None


@contextlib.contextmanager
def _ended_already() -> Iterator[None]:
    # What closed the connection is told by the reading side.
    from websockets.exceptions import ConnectionClosed

    with contextlib.suppress(ConnectionClosed):
        yield


def _cut_off() -> Unavailable:
    return Unavailable(
        Problem("connection-lost", "the connection was lost before the program ended", "run `studiolo status`")
    )
