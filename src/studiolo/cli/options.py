"""Options and arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer


def examples(*lines: str) -> str:
    """The examples at the end of a command's help, laid out as written."""
    return "\b\n" + "\n".join(("Examples:", *(f"  {line}" for line in lines)))


def names(incomplete: str) -> list[str]:
    """Workspace names, for the shell's completion. Says nothing where there is nobody to ask."""
    from studiolo.client import Client
    from studiolo.problem import StudioloError

    try:
        with Client.local() as client:
            return [found.name for found in client.workspaces() if found.name.startswith(incomplete)]
    except StudioloError:
        return []


Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Name = Annotated[str, typer.Argument(help="The workspace's name or id.", autocompletion=names, show_default=False)]
AppName = Annotated[str | None, typer.Argument(help="The app; default: the first.")]
NoBrowser = Annotated[bool, typer.Option("--no-browser", help="Print the link only.")]
