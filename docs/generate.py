"""Writes what in docs/ comes from the code: `python docs/generate.py`, or `--check` to fail where a page is stale.

`cli.md` is the commands' own help; the calls in `python-client.md` are the client's own signatures.
"""

# ruff: noqa: T201  (a program that reports)

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.cli import get_docs_for_click
from typer.main import get_command

from studiolo.cli.main import app
from studiolo.client.calls import Calls

DOCS = Path(__file__).parent
CLI = DOCS / "cli.md"
CLIENT = DOCS / "python-client.md"
BEGIN, END = "<!-- calls: begin -->\n", "<!-- calls: end -->\n"

HEAD = """\
<!-- Written by `make docs` from the commands themselves; edit their help, not this page. -->

"""


def cli_page() -> str:
    command = get_command(app)
    context = command.context_class(command, info_name="studiolo")
    text = get_docs_for_click(obj=command, ctx=context, name="studiolo", title="Commands")
    firsts = dict(first_sentences(command, ()))
    # Typer shortens what commands say of themselves in lists, and leaves the examples as running text.
    group = ""
    lines = []
    for line in text.splitlines():
        if heading := re.match(r"#+ `studiolo (.*)`", line):
            group = f"{heading[1]} "
        entry = re.match(r"\* `([a-z]+)`", line)
        words = firsts.get(f"{group}{entry[1]}") if entry else None
        lines.append(f"* `{entry[1]}`: {words}" if entry and words else line.rstrip())
    page = re.sub(r"^Examples:\n((?:  .*\n)+)", as_console, "\n".join(lines) + "\n", flags=re.MULTILINE)
    return HEAD + re.sub(r"\n{3,}", "\n\n", page).strip() + "\n"


def first_sentences(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for name, child in getattr(command, "commands", {}).items():
        yield " ".join((*words, name)), (child.help or "").strip().split("\n\n")[0].replace("\n", " ")
        yield from first_sentences(child, (*words, name))


def as_console(examples: re.Match[str]) -> str:
    commands = "".join(f"$ {line.strip()}\n" for line in examples[1].splitlines())
    return f"**Examples**:\n\n```console\n{commands}```\n"


def client_page() -> str:
    before, _, rest = CLIENT.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "".join(entry + "\n" for entry in calls()) + END + after


def calls() -> Iterator[str]:
    """Each public method of both clients, with its signature and what it says of itself."""
    for name, member in (each for owner in Calls.__mro__ for each in vars(owner).items()):
        if name.startswith("_") or not (inspect.getdoc(member) and hasattr(member, "__wrapped__")):
            continue
        signature = inspect.signature(member.__wrapped__)
        parameters = [p for p in signature.parameters.values() if p.name != "self"]
        returned = str(signature.return_annotation)
        kind, _, inner = returned.partition("[")
        result = inner.removesuffix("]")
        shown = f"iterator of {result}" if kind == "Stream" else result
        arguments = str(signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty))
        words = " ".join((inspect.getdoc(member) or "").split())
        yield f"- `{name}{arguments.replace(chr(39), '')}` → `{shown}`: {words}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page is stale")
    check = parser.parse_args().check
    stale = []
    for path, text in ((CLI, cli_page()), (CLIENT, client_page())):
        if not path.exists() or path.read_text() != text:
            stale.append(path.name)
            if not check:
                path.write_text(text)
    if stale:
        print(f"{'stale' if check else 'written'}: {', '.join(stale)}" + ("; run `make docs`" if check else ""))
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
