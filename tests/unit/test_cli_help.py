"""Help, completion and speed of the command line itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from studiolo.cli.main import app, command


def commands(node: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, child in node.commands.items():
        if hasattr(child, "commands"):
            yield from commands(child, (*words, name))
        else:
            yield (*words, name), child


EVERY = dict(commands(command()))


def test_the_commands_are_those_people_were_promised() -> None:
    alone = {words[0] for words in EVERY if len(words) == 1}
    assert alone >= {
        *("up", "down", "status", "run", "ps", "show", "open", "logs", "exec", "stop", "start", "restart", "rm"),
        *("token", "schema", "doctor", "version"),
    }
    grouped = {words for words in EVERY if len(words) == 2}
    env = "ls show diff rollback pin update cancel log adopt export sbom verify gc detect init import"
    assert grouped == {
        *((kind, verb) for kind in ("environment", "data", "compute") for verb in ("create", "ls", "show", "rm")),
        *(("secret", verb) for verb in ("set", "ls", "rm")),
        *(("env", verb) for verb in env.split()),
    }


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_every_help_has_examples_of_its_own(words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*words, "--help"])
    assert shown.exit_code == 0
    head, _, examples = shown.output.partition("Examples:\n")
    assert f"Usage: root {' '.join(words)}" in head or f"{' '.join(words)} [OPTIONS]" in head
    assert all(f"studiolo {' '.join(words)}" in line for line in examples.strip().splitlines()), examples
    assert examples.strip()


def test_what_prints_data_prints_json_too() -> None:
    without = {
        " ".join(words) for words, each in EVERY.items() if "--json" not in {o for p in each.params for o in p.opts}
    }
    # A bill of materials is JSON by itself.
    assert without == {"down", "exec", "environment rm", "data rm", "compute rm", "secret rm", "env sbom"}


def test_help_loads_nothing_that_takes_time() -> None:
    code = (
        "import sys; sys.argv = ['studiolo', '--help']\n"
        "from studiolo.cli.main import execute_command\n"
        "assert execute_command(['--help']) == 0\n"
        "print([name for name in ('pydantic', 'httpx2', 'rich', 'asyncio', 'ruamel.yaml') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


def test_completion_scripts_are_printed_for_the_shells() -> None:
    for shell in ("bash", "zsh", "fish"):
        done = subprocess.run(
            [sys.executable, "-m", "studiolo"],
            env={**os.environ, "_STUDIOLO_COMPLETE": f"source_{shell}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert "_STUDIOLO_COMPLETE" in done.stdout
