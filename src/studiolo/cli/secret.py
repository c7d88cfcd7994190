"""`secret`: log-ins of private package indexes and the like. A value is typed or piped in, never an argument."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from studiolo.cli.options import Json, Yes, examples
from studiolo.cli.output import confirm, note, print_json, print_table
from studiolo.names import as_name, is_name
from studiolo.problem import Problem, WrongInput

# As `control.secrets` has it; there is no use in reading more.
_LIMIT = 64 << 10

commands = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Secrets, such as the log-in of a private package index. They are kept encrypted and never shown.",
)
SecretName = Annotated[str, typer.Argument(help="The secret's name.", show_default=False)]


@commands.command(
    "set", epilog=examples("studiolo secret set company-index", "studiolo secret set company-index < login.txt")
)
def set_(name: SecretName, json: Json = False) -> None:
    """Keep a secret, replacing one of that name. Its value is asked for, or read from standard input.

    For a package index it reads user:password; in studiolo.yaml the index names it in `secret`.
    """
    from studiolo.client import Client

    if not is_name(name):
        raise WrongInput(
            Problem("secret-name", f"{name[:80]!r} is no name for a secret", f"write {as_name(name, 'index')}")
        )
    value = _value(name)
    with Client.local() as client:
        secret = client.put_secret(name, value)
    if json:
        print_json(secret)
    else:
        print(f"secret {secret.name} is kept")


@commands.command("ls", epilog=examples("studiolo secret ls", "studiolo secret ls --json"))
def list_(json: Json = False) -> None:
    """List the names of your secrets."""
    from studiolo.client import Client

    with Client.local() as client:
        secrets = client.secrets()
    if json:
        print_json(secrets)
    elif not secrets:
        note("There is none yet: `studiolo secret set NAME` keeps one.")
    else:
        rows = ((each.name, each.created.astimezone().strftime("%Y-%m-%d %H:%M")) for each in secrets)
        print_table(("NAME", "SET"), rows)


@commands.command(epilog=examples("studiolo secret rm company-index --yes"))
def rm(name: SecretName, yes: Yes = False) -> None:
    """Forget a secret."""
    from studiolo.client import Client

    confirm(f"Forget the secret {name}?", yes=yes)
    with Client.local() as client:
        client.delete_secret(name)
    print(f"secret {name} is forgotten")


def _value(name: str) -> str:
    """From the terminal without showing it, or all of standard input without its last line break."""
    if sys.stdin.isatty():
        from getpass import getpass

        try:
            return getpass(f"Value of {name}: ")
        except EOFError:
            raise typer.Abort from None
    try:
        # One byte too many is enough for the server to refuse it.
        return sys.stdin.buffer.read(_LIMIT + 2).decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise WrongInput(
            Problem("secret-value", "what standard input holds is no text", "encode it, for example with base64")
        ) from None
