"""What builders tell while they build: Docker's older one and Podman in lines, BuildKit in protocol buffers
(`moby.buildkit.v1.StatusResponse`, of which two messages matter)."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Line = Callable[[str], None]

_LONGEST_LINE = 1 << 20
_MOST_VERTICES = 10_000


@dataclass(frozen=True)
class Vertex:
    """A step: `name` as in `[stage-1 2/3] RUN make`."""

    digest: str
    name: str
    cached: bool
    started: bool
    error: str


@dataclass(frozen=True)
class Printed:
    vertex: str
    text: str


class Steps:
    """Hears a builder. `on_step` gets each instruction as it begins, `on_line` all that is printed."""

    _CLASSIC = re.compile(r"(?:Step \d+/\d+ : |(?:\[\d+/\d+\] )?STEP \d+/\d+: )(.*)")
    _KIT = re.compile(r"\[(?:[^\]]* )?\d+/\d+\] (.*)", re.DOTALL)

    def __init__(self, on_step: Line, on_line: Line) -> None:
        self._on_step = on_step
        self._on_line = on_line
        self._rest = ""
        self._vertices: set[str] = set()
        self.current = ""
        self.failed = ""
        self.begun = False

    def hear(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if match := self._CLASSIC.match(line):
                self._begin(match[1])
            self._on_line(line)
        if len(self._rest) > _LONGEST_LINE:
            self.end()

    def trace(self, encoded: str) -> None:
        with contextlib.suppress(ValueError):
            for each in read(base64.b64decode(encoded)):
                if isinstance(each, Printed):
                    self.hear(each.text)
                elif match := self._KIT.fullmatch(each.name):
                    if each.started and each.digest not in self._vertices and len(self._vertices) < _MOST_VERTICES:
                        self._vertices.add(each.digest)
                        self._begin(match[1])
                        self._on_line(f"{each.name}{' (cached)' if each.cached else ''}")
                    self.failed = match[1] if each.error and "cancel" not in each.error else self.failed

    def end(self) -> None:
        if self._rest:
            self._on_line(self._rest)
            self._rest = ""

    def _begin(self, text: str) -> None:
        self.begun = True
        self.current = text
        self._on_step(text)


def read(data: bytes) -> Iterator[Vertex | Printed]:
    """What a status message tells. Raises ValueError where it is none."""
    for number, value in _fields(data):
        if not isinstance(value, bytes):
            continue
        if number == 1:
            parts = dict(_fields(value))
            yield Vertex(_text(parts.get(1)), _text(parts.get(3)), parts.get(4) == 1, 5 in parts, _text(parts.get(7)))
        elif number == 3:
            parts = dict(_fields(value))
            yield Printed(_text(parts.get(1)), _text(parts.get(4)))


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        match key & 7:
            case 0:
                value, at = _varint(data, at)
                yield key >> 3, value
            case 2:
                size, at = _varint(data, at)
                if at + size > len(data):
                    raise ValueError("a field is cut off")
                yield key >> 3, data[at : at + size]
                at += size
            case 1:
                at += 8
            case 5:
                at += 4
            case wire:
                raise ValueError(f"wire type {wire}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number is cut off")


def _text(value: int | bytes | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""
