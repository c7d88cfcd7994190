"""The `studiolo` command: its groups put together, and every error in words with its exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer
from typer.core import TyperGroup

from studiolo.cli import about, blocks, doctor, env, env_files, execute, run, secret, up, workspaces
from studiolo.cli.output import note, print_problems, print_problems_json
from studiolo.problem import Problem, StudioloError

app = typer.Typer(
    name="studiolo",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="A room of their own for every data scientist: JupyterLab and VS Code in the browser.\n\n"
    "`studiolo up` starts it, `studiolo run` in a repository opens a workspace. STUDIOLO_HOME selects the data folder.",
)
for part in (up, run, workspaces, execute, about, doctor):
    app.add_typer(part.commands)
env.commands.add_typer(env_files.commands)
app.add_typer(env.commands, name="env")
app.add_typer(secret.commands, name="secret")
app.add_typer(blocks.group("environment"), name="environment")
app.add_typer(blocks.group("data"), name="data")
app.add_typer(blocks.group("compute"), name="compute")


def main() -> None:
    """Run the command that this process was started as; ends the process."""
    sys.exit(execute_command(sys.argv[1:]))


def execute_command(arguments: Sequence[str]) -> int:
    """Run one command. Exit status: 0, 1 (failed), 2 (wrong input), 130 (interrupted), or that of a program it ran."""
    try:
        status = command()(list(arguments), prog_name="studiolo", standalone_mode=False)
    except StudioloError as error:
        return _refused(error.problems, error.exit_status, arguments)
    except typer.TyperException as error:
        hint = "run `studiolo --help`" if not arguments else f"run `studiolo {_command_words(arguments)}--help`"
        return _refused([Problem("wrong-usage", error.format_message(), hint)], error.exit_code, arguments)
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    if status == 130:
        note("")
    return _flushed(status if isinstance(status, int) else 0)


def command() -> TyperGroup:
    """The whole command line, as the help and the documentation see it."""
    made = typer.main.get_command(app)
    assert isinstance(made, TyperGroup)
    return made


def _refused(problems: Sequence[Problem], status: int, arguments: Sequence[str]) -> int:
    before_command = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "--json" in before_command:
        print_problems_json(problems)
    print_problems(problems)
    return _flushed(status)


def _command_words(arguments: Sequence[str]) -> str:
    """The command that was meant: its words up to the first that is none, each followed by a space."""
    words: list[str] = []
    known: object = command()
    for word in arguments:
        if not isinstance(known, TyperGroup) or word not in known.commands:
            break
        words.append(f"{word} ")
        known = known.commands[word]
    return "".join(words)


def _flushed(status: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; the interpreter must not try again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status
