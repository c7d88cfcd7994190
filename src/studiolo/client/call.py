"""One call of the API as data: what to send, and how to read the answer. Nothing here opens a connection.

A method decorated with `endpoint` or `stream` returns such a description. Seen on a `Blocking` client the method sends
it and returns the answer; seen on an `Awaiting` client it returns an awaitable (or an async iterator) of the same, so
the two clients cannot drift apart.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from pydantic import TypeAdapter, ValidationError

from studiolo.problem import Conflict, Denied, NotFound, Problem, StudioloError, Unavailable, WrongInput
from studiolo.resources import ProblemDetails

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request and the type of its answer. `path` is below `/api/v1` and quoted; None in `query` is left out."""

    method: str
    path: str
    answer: type[T]
    body: Any = None
    query: Mapping[str, str | int | bool | None] = field(default_factory=dict)

    @property
    def params(self) -> dict[str, str | int | bool]:
        return {name: value for name, value in self.query.items() if value is not None}

    def read(self, status: int, content: bytes) -> T:
        """The answer, or the server's problems as the matching exception."""
        if status >= 400:
            raise failure(status, content)
        try:
            return TypeAdapter(self.answer).validate_json(content or b"null")
        except ValidationError as error:
            raise _other_version(f"{self.method} {self.path}") from error


@dataclass(frozen=True)
class Stream(Generic[T]):
    """A request answered by lines for as long as both sides like. `decode` says None for lines that mean nothing.

    `quiet`: end the stream after so many seconds without a byte, instead of waiting for ever.
    """

    path: str
    decode: Callable[[str], T | None]
    query: Mapping[str, str | int | bool | None] = field(default_factory=dict)
    quiet: float | None = None

    @property
    def params(self) -> dict[str, str | int | bool]:
        return {name: value for name, value in self.query.items() if value is not None}

    def lines(self) -> Lines[T]:
        return Lines(self)


class Lines(Generic[T]):
    """Turns received bytes into items. Only LF ends a line: JSON may hold U+2028 and such, which end one elsewhere."""

    def __init__(self, stream: Stream[T]) -> None:
        self._stream = stream
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[T]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            try:
                item = self._stream.decode(line.decode(errors="replace").rstrip("\r"))
            except ValidationError as error:
                raise _other_version(self._stream.path) from error
            if item is not None:
                yield item


class Blocking(ABC):
    """A client whose calls return when the answer is there."""

    @abstractmethod
    def send(self, call: Call[T]) -> T: ...

    @abstractmethod
    def follow(self, stream: Stream[T]) -> Iterator[T]: ...


class Awaiting(ABC):
    """A client whose calls are awaited."""

    @abstractmethod
    async def send(self, call: Call[T]) -> T: ...

    @abstractmethod
    def follow(self, stream: Stream[T]) -> AsyncIterator[T]: ...


class endpoint(Generic[P, T]):  # noqa: N801  a decorator
    """Makes a method that describes a `Call` into one that carries it out."""

    def __init__(self, describe: Callable[Concatenate[Any, P], Call[T]]) -> None:
        self._describe = describe
        functools.update_wrapper(self, describe)  # type: ignore[arg-type]  # for its documentation only

    @overload
    def __get__(self, client: None, owner: type) -> endpoint[P, T]: ...
    @overload
    def __get__(self, client: Blocking, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: Awaiting, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: Blocking | Awaiting | None, owner: type) -> Any:
        if client is None:
            return self

        @functools.wraps(self._describe)
        def carry_out(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client.send(self._describe(client, *args, **kwargs))

        return functools.partial(carry_out)


class stream(Generic[P, T]):  # noqa: N801  a decorator
    """Makes a method that describes a `Stream` into one that iterates over it."""

    def __init__(self, describe: Callable[Concatenate[Any, P], Stream[T]]) -> None:
        self._describe = describe
        functools.update_wrapper(self, describe)  # type: ignore[arg-type]  # for its documentation only

    @overload
    def __get__(self, client: None, owner: type) -> stream[P, T]: ...
    @overload
    def __get__(self, client: Blocking, owner: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, client: Awaiting, owner: type) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, client: Blocking | Awaiting | None, owner: type) -> Any:
        if client is None:
            return self

        @functools.wraps(self._describe)
        def carry_out(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client.follow(self._describe(client, *args, **kwargs))

        return functools.partial(carry_out)


_BY_STATUS: dict[int, type[StudioloError]] = {
    401: Denied,
    403: Denied,
    404: NotFound,
    409: Conflict,
    422: WrongInput,
    503: Unavailable,
}


def failure(status: int, content: bytes) -> StudioloError:
    """The exception for an error answer; one that is not problem+json (a proxy's page) is quoted in part."""
    kind = _BY_STATUS.get(status, StudioloError)
    try:
        details = ProblemDetails.model_validate_json(content)
    except ValidationError:
        text = " ".join(content.decode(errors="replace").split())[:200]
        return kind(Problem(f"http-{status}", f"the server answered {status}" + (f": {text}" if text else "")))
    return described(details, kind)


def described(details: ProblemDetails, kind: type[StudioloError] | None = None) -> StudioloError:
    """The exception that a problem document stands for."""
    kind = kind or _BY_STATUS.get(details.status, StudioloError)
    known = ("code", "message", "hint", "where")
    problems = [
        Problem(**{"code": details.code, "message": details.detail} | {key: one[key] for key in known if key in one})
        for one in details.problems
    ]
    return kind(*problems or [Problem(details.code, details.detail or details.title, details.hint)])


def _other_version(what: str) -> StudioloError:
    return StudioloError(
        Problem(
            "answer-not-understood",
            f"the answer to {what} is not what this version expects",
            "run `studiolo down` and `studiolo up`, so that command and control plane are of one version",
        )
    )
