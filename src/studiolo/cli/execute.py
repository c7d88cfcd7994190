"""`exec`: a program inside a running workspace, on a terminal or with pipes."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from studiolo.cli.options import Name, examples
from studiolo.problem import Problem, WrongInput

if TYPE_CHECKING:
    from studiolo.client import Execution

commands = typer.Typer()

_CHUNK = 64 * 1024


@commands.command(
    "exec",
    epilog=examples(
        "studiolo exec analysis -- python -V",
        "studiolo exec analysis -- bash",
        "studiolo exec analysis -- cat < notes.txt",
    ),
    context_settings={"allow_interspersed_args": False},
)
def exec_(
    name: Name,
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="The program and its arguments.")],
) -> None:
    """Run a program inside a running workspace, in its environment; ends with the program's exit status.

    On a terminal where both input and output are one, otherwise with pipes.
    """
    from studiolo.client import Client

    # What follows the name is taken as it is, so that the program's own options need no `--`; one in front is ours.
    argv = command[1:] if command[0] == "--" else command
    if not argv:
        raise WrongInput(Problem("no-command", "there is no command to run", f"studiolo exec {name} -- COMMAND"))
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    with (
        Client.local() as client,
        client.exec(name, argv, tty=_size() if on_terminal else None) as execution,
        _raw_terminal() if on_terminal else contextlib.nullcontext(),
        _feeding(execution, resizes=on_terminal),
    ):
        for output in execution:
            stream = sys.stdout.buffer if output.stream == 1 else sys.stderr.buffer
            stream.write(output.data)
            stream.flush()
    assert execution.status is not None, "the output has ended, so the program has"
    raise typer.Exit(execution.status)


def _size() -> tuple[int, int]:
    size = shutil.get_terminal_size()
    return size.columns, size.lines


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Every key goes to the program, Ctrl-C too."""
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _feeding(execution: Execution, *, resizes: bool) -> Iterator[None]:
    """Pass standard input on in a thread, while the caller reads. A signal handler must not touch the connection, so
    it wakes that thread through a pipe, and leaving does the same."""
    wake, waker = os.pipe()
    os.set_blocking(waker, False)

    def resized(number: int, frame: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(waker, b"r")

    feeder = threading.Thread(target=_feed, args=(execution, wake), daemon=True)
    before = signal.signal(signal.SIGWINCH, resized) if resizes else None
    feeder.start()
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGWINCH, before)
        os.write(waker, b"q")
        feeder.join()
        os.close(wake)
        os.close(waker)


def _feed(execution: Execution, wake: int) -> None:
    source = _standard_input()
    while True:
        watched = [wake] if source is None else [wake, source]
        readable, _, _ = select.select(watched, [], [])
        if wake in readable:
            if b"q" in os.read(wake, _CHUNK):
                return
            execution.resize(*_size())
        elif source is not None:
            try:
                data = os.read(source, _CHUNK)
            except OSError:
                data = b""  # a terminal that hung up
            execution.write(data)
            if not data:
                source = None


def _standard_input() -> int | None:
    """None where it is closed (`<&-`): then the program gets none either."""
    try:
        return sys.stdin.fileno()
    except (AttributeError, ValueError, OSError):
        return None
