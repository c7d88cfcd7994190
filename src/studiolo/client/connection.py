"""Carrying calls out: the blocking client and the one for asyncio. They differ only in waiting."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Self, TypeVar

import httpx2
from pydantic_core import to_json

from studiolo.client.address import PREFIX, Address
from studiolo.client.call import Awaiting, Blocking, Call, Stream, failure
from studiolo.client.calls import Calls
from studiolo.client.execution import AsyncExecution, Exchange, Execution
from studiolo.layout import Layout
from studiolo.problem import Problem, StudioloError, Unavailable

T = TypeVar("T")

_PATIENCE = 60.0
"""Seconds for an answer; what takes longer is answered at once by the API and followed by events."""


class Client(Calls, Blocking):
    """Studiolo's API, blocking. Close it, or use it as a context manager. Safe to share between threads."""

    def __init__(self, url: str, token: str) -> None:
        """Talk to the Studiolo at `url`, such as http://localhost:8800. Connects with the first call."""
        self._open(Address(url.rstrip("/"), token))

    @classmethod
    def local(cls, layout: Layout | None = None) -> Self:
        """Talk to this machine's Studiolo (`STUDIOLO_HOME`). Raises `Unavailable` where none has ever been up."""
        client = cls.__new__(cls)
        client._open(Address.local(layout))
        return client

    def _open(self, address: Address) -> None:
        self._address = address
        transport = None
        if address.socket is not None:
            # No TLS on the socket: reading the certificate store would only take time.
            transport = httpx2.HTTPTransport(uds=str(address.socket), verify=False)
        self._http = httpx2.Client(**_settings(address), transport=transport)

    def send(self, call: Call[T]) -> T:
        """Carry out one described call."""
        with _in_our_words(self._address):
            response = self._http.request(call.method, call.path, **_request(call))
        return call.read(response.status_code, response.content)

    def follow(self, stream: Stream[T]) -> Iterator[T]:
        """Iterate over what a stream says; closing the iterator hangs up."""
        lines = stream.lines()
        with _in_our_words(self._address), self._http.stream("GET", stream.path, **_subscription(stream)) as response:
            if response.status_code >= 400:
                raise failure(response.status_code, response.read())
            try:
                for data in response.iter_bytes():
                    yield from lines.feed(data)
            except httpx2.ReadTimeout:
                return

    def exec(self, ref: str, argv: Sequence[str], *, tty: tuple[int, int] | None = None) -> Execution:
        """Run a program inside a running workspace; enter the result as a context manager and iterate over its output.

        `tty`: on a terminal of (columns, rows).
        """
        return Execution(Exchange(self._address, ref, tuple(argv), tty))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class AsyncClient(Calls, Awaiting):
    """Studiolo's API for asyncio. Close it with `aclose`, or use it as an async context manager."""

    def __init__(self, url: str, token: str) -> None:
        """Talk to the Studiolo at `url`, such as http://localhost:8800. Connects with the first call."""
        self._open(Address(url.rstrip("/"), token))

    @classmethod
    def local(cls, layout: Layout | None = None) -> Self:
        """Talk to this machine's Studiolo (`STUDIOLO_HOME`). Raises `Unavailable` where none has ever been up."""
        client = cls.__new__(cls)
        client._open(Address.local(layout))
        return client

    def _open(self, address: Address) -> None:
        self._address = address
        transport = None
        if address.socket is not None:
            transport = httpx2.AsyncHTTPTransport(uds=str(address.socket), verify=False)
        self._http = httpx2.AsyncClient(**_settings(address), transport=transport)

    async def send(self, call: Call[T]) -> T:
        """Carry out one described call."""
        with _in_our_words(self._address):
            response = await self._http.request(call.method, call.path, **_request(call))
        return call.read(response.status_code, response.content)

    async def follow(self, stream: Stream[T]) -> AsyncIterator[T]:
        """Iterate over what a stream says; closing the iterator hangs up."""
        lines = stream.lines()
        with _in_our_words(self._address):
            async with self._http.stream("GET", stream.path, **_subscription(stream)) as response:
                if response.status_code >= 400:
                    raise failure(response.status_code, await response.aread())
                try:
                    async for data in response.aiter_bytes():
                        for item in lines.feed(data):
                            yield item
                except httpx2.ReadTimeout:
                    return

    def exec(self, ref: str, argv: Sequence[str], *, tty: tuple[int, int] | None = None) -> AsyncExecution:
        """Run a program inside a running workspace; enter the result as an async context manager and iterate over its
        output. `tty`: on a terminal of (columns, rows)."""
        return AsyncExecution(Exchange(self._address, ref, tuple(argv), tty))

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


def _settings(address: Address) -> dict[str, Any]:
    return {
        "base_url": address.url + PREFIX,
        "headers": address.headers,
        "timeout": httpx2.Timeout(_PATIENCE, connect=10.0),
    }


def _request(call: Call[Any]) -> dict[str, Any]:
    if call.body is None:
        return {"params": call.params}
    return {"params": call.params, "content": to_json(call.body), "headers": {"content-type": "application/json"}}


def _subscription(stream: Stream[Any]) -> dict[str, Any]:
    return {"params": stream.params, "timeout": httpx2.Timeout(_PATIENCE, connect=10.0, read=stream.quiet)}


@contextlib.contextmanager
def _in_our_words(address: Address) -> Iterator[None]:
    try:
        yield
    except httpx2.InvalidURL as error:
        raise StudioloError(Problem("url-wrong", f"{address.url} is not an address: {error}")) from None
    except (httpx2.ConnectError, httpx2.ConnectTimeout):
        raise address.unreachable() from None
    except httpx2.TimeoutException:
        raise Unavailable(
            Problem("no-answer", f"Studiolo did not answer within {_PATIENCE:g} s", "run `studiolo status`")
        ) from None
    except httpx2.TransportError as error:
        raise Unavailable(
            Problem("connection-lost", f"the connection to Studiolo was lost: {error}", "run `studiolo status`")
        ) from None
