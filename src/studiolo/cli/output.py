"""What the command prints: JSON for programs, aligned text for people, problems on standard error."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from studiolo.problem import Problem, WrongInput

_PLACE = re.compile(r".*:\d+:\d+")


def print_json(value: Any) -> None:
    """Print resources, or plain data that holds some."""
    from pydantic_core import to_json

    print(to_json(value, indent=2).decode())


def print_problems(problems: Iterable[Problem]) -> None:
    """For people: `file:line:column: message; hint` for what stands in a file, otherwise message and hint."""
    for problem in problems:
        if _PLACE.fullmatch(problem.where):
            print(problem, file=sys.stderr)
            continue
        where = f"{problem.where}: " if problem.where else ""
        print(f"studiolo: {where}{problem.message}", file=sys.stderr)
        if problem.hint:
            print(f"hint: {problem.hint}", file=sys.stderr)


def print_problems_json(problems: Iterable[Problem]) -> None:
    listed = [{"code": each.code, "message": each.message, "hint": each.hint, "where": each.where} for each in problems]
    print(json.dumps({"problems": listed}, indent=2))


def note(text: str) -> None:
    """Something beside the answer, for people only."""
    print(text, file=sys.stderr)


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as their widest cell, two spaces between them; the last one runs free."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Name and value, a line each; fields without a value are left out."""
    shown = [(name, value) for name, value in fields if value]
    width = max(len(name) for name, _ in shown)
    for name, value in shown:
        print(f"{name.ljust(width)}  {value}")


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone; ends the command where the answer is no.

    Raises `WrongInput` where nobody can be asked and `--yes` was not given.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise WrongInput(Problem("not-confirmed", question, "there is no terminal to ask on: add --yes"))
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        import typer

        note("nothing was done")
        raise typer.Exit(1)


def open_in_browser(url: str) -> bool:
    """Whether a browser was asked to open it: only for a person at a terminal with a display."""
    if not sys.stdout.isatty() or not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    import webbrowser

    return webbrowser.open(url)


class Live:
    """Lines that stay and, on a terminal, one line below them that says what is being done right now."""

    def __init__(self, *, quiet: bool = False) -> None:
        """`quiet`: standard output is for an answer in JSON, so everything goes to standard error."""
        self._stream = sys.stderr if quiet else sys.stdout
        self._moving = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._shown = ""

    def line(self, text: str) -> None:
        self.clear()
        print(text, file=self._stream, flush=True)

    def now(self, text: str) -> None:
        """Show it until something else is said; not at all where the output is no terminal."""
        text = " ".join(text.split())[: shutil.get_terminal_size().columns - 1]
        if self._moving and text != self._shown:
            self.clear()
            print(text, end="", file=self._stream, flush=True)
            self._shown = text

    def clear(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=self._stream, flush=True)
            self._shown = ""


def in_words(seconds: float) -> str:
    """A span of time, coarsely: `40 s`, `12 min`, `3 h`, `5 days`."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
