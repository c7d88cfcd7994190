"""YAML 1.2 text to plain data with the place of everything in it.

Scalars keep the text they were written as (`3.10`, `no`, `22:22`, `0o17`): a document's model knows what it wants,
YAML can only guess. Only an empty value, `~` and `null` mean nothing. Hostile documents are refused early: by size,
by number and depth of values (aliases counted as often as they are used), tags, several documents.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)

from studiolo.problem import Problem, WrongInput
from studiolo.spec.check import DEEPEST, MOST_CHARACTERS, MOST_NODES
from studiolo.spec.wording import FieldPath, dotted, quoted

_NOTHING = frozenset({"", "~", "null", "Null", "NULL"})
_HINTS = {
    "\\t": "indent with spaces, not with tabs",
    "mapping values are not allowed": 'quote a text that holds ": "',
    "could not find expected ':'": "write key: value",
    "expected <block end>": "indent the lines of one block alike",
    "unexpected end of stream": "close the quote that was opened",
    "cannot start any token": "quote a text that begins with @, ` or %",
}


@dataclass(frozen=True)
class Positions:
    """Where each value stands: lines and columns from 1, of the key in a mapping, of the item in a list."""

    file: str
    at: Mapping[FieldPath, tuple[int, int]] = field(default_factory=dict)

    def locate(self, path: FieldPath) -> str:
        """`file:line:column` of the value at `path`, or of the nearest thing around it that is there."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.at:
                line, column = self.at[path[:length]]
                return f"{self.file}:{line}:{column}"
        return f"{self.file}:1:1"

    def spot(self, field_path: str) -> tuple[int, int]:
        """Line and column for a field path as text, `apps[0].command`: of it, or of the nearest around it."""
        near = field_path
        while near and near not in self._by_text:
            near = near[: max(near.rfind("."), near.rfind("["), 0)]
        return self._by_text.get(near, (1, 1))

    def located(self, problem: Problem) -> Problem:
        """The problem with its field path moved from `where` into the message, and `file:line:column` as `where`."""
        line, column = self.spot(problem.where)
        message = f"{problem.where}: {problem.message}" if problem.where else problem.message
        return Problem(problem.code, message, problem.hint, f"{self.file}:{line}:{column}")

    @cached_property
    def _by_text(self) -> dict[str, tuple[int, int]]:
        return {dotted(path): spot for path, spot in self.at.items()}


@dataclass(frozen=True)
class Tree:
    """Plain data (dict, list, str, None) and the place of everything in it."""

    data: dict[str, Any]
    positions: Positions


def read_yaml(text: str | bytes, file: str) -> Tree:
    """Read one document whose top level is a mapping; an empty one is an empty mapping.

    Raises `WrongInput` with `file:line:column`: one problem where it is no YAML, all where keys are duplicated.
    """
    if len(text) > MOST_CHARACTERS:
        raise _wrong(
            file, "too-large", f"the file is larger than {MOST_CHARACTERS // 1024} KiB", "is it the right one?"
        )
    decoded = _decoded(text, file)
    reader = _Reader(file)
    try:
        for event in _events(decoded):
            reader.take(event)
    except MarkedYAMLError as error:
        message = error.problem or "it cannot be read as YAML"
        hint = next((hint for part, hint in _HINTS.items() if part in message), "")
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise _wrong(file, "not-yaml", f"not YAML: {message}", hint, line, column) from None
    except YAMLError as error:
        message = str(error).partition("\n")[0]
        before = decoded[: getattr(error, "position", 0)]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise _wrong(file, "not-yaml", f"not YAML: {message}", "", line, column) from None
    return reader.tree()


def _decoded(text: str | bytes, file: str) -> str:
    if isinstance(text, str):
        return text
    try:
        return text.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise _wrong(file, "not-yaml", "the file is not UTF-8 text", "save it as UTF-8", line) from None


def _events(text: str) -> Iterator[Event]:
    # The pure parser, so that places and limits are the same everywhere.
    yield from YAML(typ="safe", pure=True).parse(text)


def _wrong(file: str, code: str, message: str, hint: str = "", line: int = 1, column: int = 1) -> WrongInput:
    return WrongInput(Problem(code, message, hint, f"{file}:{line}:{column}"))


@dataclass
class _Frame:
    """A mapping or list being filled. `before`: how many values had been read when it began."""

    container: dict[str, Any] | list[Any]
    path: FieldPath
    anchor: str | None
    before: int
    key: str | None = None


def _scalar(event: ScalarEvent) -> str | None:
    """The text as written, None for a plain nothing."""
    if event.implicit[0] and event.value in _NOTHING:
        return None
    text = str(event.value)
    if any("\ud800" <= character <= "\udfff" for character in text):
        # JSON, which YAML includes, escapes a character beyond the 16 bits as a pair.
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return text


class _Reader:
    """Builds the tree from parser events, without recursion."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._at: dict[FieldPath, tuple[int, int]] = {}
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._nodes = 0
        self._documents = 0
        self._root: Any = {}
        self._duplicates: list[Problem] = []

    def tree(self) -> Tree:
        if self._duplicates:
            raise WrongInput(*self._duplicates[:50])
        return Tree(self._root, Positions(self._file, self._at))

    def take(self, event: Event) -> None:
        match event:
            case StreamStartEvent() | StreamEndEvent():
                pass
            case DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise self._wrong(event, "not-yaml", "the file holds several documents", "keep one, without ---")
            case NodeEvent():
                self._node(event)
            case MappingEndEvent() | SequenceEndEvent():
                frame = self._stack.pop()
                if frame.anchor:
                    self._anchors[frame.anchor] = (frame.container, self._nodes - frame.before)

    def _node(self, event: NodeEvent) -> None:
        frame = self._stack[-1] if self._stack else None
        if isinstance(event, ScalarEvent | MappingStartEvent | SequenceStartEvent) and event.tag:
            raise self._wrong(event, "not-yaml", f"the tag {quoted(str(event.tag))} is not supported", "leave it out")
        if frame is None and not isinstance(event, MappingStartEvent):
            if isinstance(event, ScalarEvent) and _scalar(event) is None:
                return
            raise self._wrong(event, "wrong-value", "the file is not a mapping", "write lines such as name: analysis")
        self._count(event, 1)
        if frame is not None and isinstance(frame.container, dict) and frame.key is None:
            self._key(event, frame, frame.container)
            return
        value = self._value(event, self._place(event, frame))
        if frame is None:
            self._root = value
        elif isinstance(frame.container, list):
            frame.container.append(value)
        elif frame.key is not None:
            frame.container[frame.key] = value
            frame.key = None

    def _value(self, event: NodeEvent, path: FieldPath) -> Any:
        if isinstance(event, AliasEvent):
            if event.anchor not in self._anchors:
                raise self._wrong(event, "not-yaml", f"there is no &{event.anchor} before it to refer to")
            value, nodes = self._anchors[event.anchor]
            self._count(event, nodes)
            return value
        if isinstance(event, ScalarEvent):
            text = _scalar(event)
            if event.anchor:
                self._anchors[event.anchor] = (text, 1)
            return text
        if len(self._stack) >= DEEPEST:
            raise self._wrong(event, "too-deep", f"nested more than {DEEPEST} levels deep")
        container: dict[str, Any] | list[Any] = {} if isinstance(event, MappingStartEvent) else []
        self._stack.append(_Frame(container, path, event.anchor, self._nodes))
        return container

    def _key(self, event: NodeEvent, frame: _Frame, known: dict[str, Any]) -> None:
        if not isinstance(event, ScalarEvent):
            raise self._wrong(event, "not-yaml", "a key must be text", "quote it if it begins with {, [, * or &")
        key = _scalar(event) or str(event.value)
        path = (*frame.path, key)
        if key in known:
            line, _ = self._at[path]
            where = f"{self._file}:{event.start_mark.line + 1}:{event.start_mark.column + 1}"
            message = f"{dotted(path)}: the key is there twice, first in line {line}"
            self._duplicates.append(Problem("duplicate-key", message, "keep one of them", where))
        else:
            self._at[path] = (event.start_mark.line + 1, event.start_mark.column + 1)
        frame.key = key

    def _place(self, event: NodeEvent, frame: _Frame | None) -> FieldPath:
        if frame is not None and frame.key is not None:
            return (*frame.path, frame.key)
        path = (*frame.path, len(frame.container)) if frame is not None else ()
        self._at[path] = (event.start_mark.line + 1, event.start_mark.column + 1)
        return path

    def _count(self, event: Event, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MOST_NODES:
            raise self._wrong(event, "too-large", f"the file holds more than {MOST_NODES} values")

    def _wrong(self, event: Event, code: str, message: str, hint: str = "") -> WrongInput:
        return _wrong(self._file, code, message, hint, event.start_mark.line + 1, event.start_mark.column + 1)
