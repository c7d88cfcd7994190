"""JSON with comments and trailing commas to plain data with the place of everything in it.

What editors call `jsonc`. Libraries that read it give no places, which a person needs to find what is not honoured.
Hostile documents are refused early: by size, number and depth of values.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from typing import Any, NoReturn

from studiolo.problem import Problem, WrongInput
from studiolo.spec.check import DEEPEST, MOST_CHARACTERS, MOST_NODES, refuse_hostile
from studiolo.spec.wording import FieldPath, dotted, quoted
from studiolo.spec.yaml import Positions, Tree

_SKIPPED = re.compile(r"(?:[ \t\r\n]+|//[^\r\n]*|/\*.*?\*/)*", re.DOTALL)
_TOKEN = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"/]+')
_WORDS = {"": "the end of the file", ",": "a comma", ":": "a colon"}


def read_jsonc(text: str, file: str) -> Tree:
    """Read one object. Raises `WrongInput` with `file:line:column`."""
    if len(text) > MOST_CHARACTERS:
        message = f"the file is larger than {MOST_CHARACTERS // 1024} KiB"
        raise WrongInput(Problem("too-large", message, "is it the right one?", f"{file}:1:1"))
    reader = _Reader(text, file)
    data = reader.document()
    positions = Positions(file, reader.at)
    try:
        refuse_hostile(data)
    except WrongInput as error:
        raise WrongInput(*(positions.located(each) for each in error.problems)) from None
    return Tree(data, positions)


class _Reader:
    """Goes through the text once. `_next` is the token to come, empty at the end; `_start` is where it begins."""

    def __init__(self, text: str, file: str) -> None:
        self.at: dict[FieldPath, tuple[int, int]] = {}
        self._text = text
        self._file = file
        self._lines = [0, *(match.end() for match in re.finditer(r"\r\n|\r|\n", text))]
        self._values = 0
        self._start = self._end = 1 if text.startswith("\ufeff") else 0
        self._next = ""
        self._advance()

    def document(self) -> dict[str, Any]:
        if self._next != "{":
            self._wrong("the file is not an object", 'write { "image": "..." }')
        self.at[()] = self._place()
        data: dict[str, Any] = self._value(())
        if self._next:
            self._unexpected("the end of the file")
        return data

    def _value(self, path: FieldPath) -> Any:
        self._values += 1
        if self._values > MOST_NODES:
            self._wrong(f"the file holds more than {MOST_NODES} values", code="too-large")
        if len(path) > DEEPEST:
            self._wrong(f"nested more than {DEEPEST} levels deep", code="too-deep")
        match self._next:
            case "{":
                return self._object(path)
            case "[":
                return self._list(path)
            case "" | "}" | "]" | ":" | ",":
                self._unexpected("a value")
        return self._scalar()

    def _object(self, path: FieldPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self._advance()
        while self._next != "}":
            if not self._next.startswith('"'):
                self._unexpected("a key in double quotes, or }")
            spot = self._place()
            at = self._start
            key = self._scalar()
            inner = (*path, key)
            if key in found:
                self._start = at
                message = f"{dotted(inner)}: the key is there twice, first in line {self.at[inner][0]}"
                self._wrong(message, "keep one of them", "duplicate-key")
            self.at[inner] = spot
            if self._next != ":":
                self._unexpected("a colon")
            self._advance()
            found[key] = self._value(inner)
            self._comma("}")
        self._advance()
        return found

    def _list(self, path: FieldPath) -> list[Any]:
        found: list[Any] = []
        self._advance()
        while self._next != "]":
            inner = (*path, len(found))
            self.at[inner] = self._place()
            found.append(self._value(inner))
            self._comma("]")
        self._advance()
        return found

    def _comma(self, end: str) -> None:
        if self._next == ",":
            self._advance()
        elif self._next != end:
            self._unexpected(f"a comma or {end}")

    def _scalar(self) -> Any:
        try:
            value = json.loads(self._next, parse_constant=_refuse)
        except ValueError:
            hint = "write texts in double quotes" if self._next[:1] in "'`" or self._next[:1].isalpha() else ""
            self._wrong(f"not JSON: {quoted(self._next)} is no value", hint)
        self._advance()
        return value

    def _advance(self) -> None:
        skipped = _SKIPPED.match(self._text, self._end)
        assert skipped is not None, "it matches nothing, too"
        self._start = skipped.end()
        if self._start == len(self._text):
            self._next = ""
            return
        token = _TOKEN.match(self._text, self._start)
        if token is None:
            opened = {'"': "a text", "/": "a comment"}.get(self._text[self._start])
            if opened == "a comment" and not self._text.startswith("/*", self._start):
                opened = None
            self._wrong(
                f"not JSON: {opened} begins here and does not end" if opened else "not JSON: a value cannot begin so",
                {"a text": 'close it with ", on the same line', "a comment": "close it with */"}.get(opened or "", ""),
            )
        self._next, self._end = token[0], token.end()

    def _unexpected(self, wanted: str) -> NoReturn:
        found = _WORDS.get(self._next) or (self._next if self._next in "{}[]" else quoted(self._next.strip('"')))
        self._wrong(f"not JSON: here should be {wanted}, not {found}")

    def _wrong(self, message: str, hint: str = "", code: str = "not-json") -> NoReturn:
        line, column = self._place()
        raise WrongInput(Problem(code, message, hint, f"{self._file}:{line}:{column}"))

    def _place(self) -> tuple[int, int]:
        line = bisect_right(self._lines, self._start)
        return line, self._start - self._lines[line - 1] + 1


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"JSON knows no {constant}")
