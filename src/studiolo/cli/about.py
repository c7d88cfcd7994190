"""`schema` and `version`: what can be said without asking anybody."""

from __future__ import annotations

import typer

from studiolo.cli.options import Json, examples
from studiolo.cli.output import print_json

commands = typer.Typer()


@commands.command(epilog=examples("studiolo schema > studiolo.schema.json"))
def schema(json: Json = False) -> None:
    """Print the JSON Schema of studiolo.yaml, for editors that complete and check as you type. It is JSON anyway."""
    from studiolo.spec.schema import json_schema

    print_json(json_schema())


@commands.command(epilog=examples("studiolo version", "studiolo version --json"))
def version(json: Json = False) -> None:
    """Print the version."""
    import platform

    from studiolo import __version__

    if json:
        print_json({"version": __version__, "python": platform.python_version()})
    else:
        print(f"studiolo {__version__}")
