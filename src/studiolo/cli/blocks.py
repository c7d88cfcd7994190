"""`environment`, `data` and `compute`: named building blocks. One group of commands for each kind, all alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studiolo.cli.options import Json, Yes, examples
from studiolo.cli.output import confirm, note, print_json, print_table
from studiolo.problem import Problem, WrongInput

if TYPE_CHECKING:
    from studiolo.resources import Block, BlockKind

BlockName = Annotated[str, typer.Argument(help="The block's name.", show_default=False)]

_WHAT: dict[BlockKind, str] = {
    "environment": "environments: which software",
    "data": "data sources: which storage",
    "compute": "compute resources: how much machine",
}
_KEPT: dict[BlockKind, str] = {"environment": "data-science", "data": "measurements", "compute": "cpu-small"}


def group(kind: BlockKind) -> typer.Typer:
    """The commands on blocks of one kind."""
    commands = typer.Typer(
        rich_markup_mode=None, no_args_is_help=True, help=f"Named {_WHAT[kind]}. Workspaces refer to them by name."
    )
    example = _KEPT[kind]

    @commands.command(
        epilog=examples(f"studiolo {kind} create -f {kind}.yaml", f"studiolo {kind} create mine -f {kind}.yaml")
    )
    def create(
        file: Annotated[Path, typer.Option("--file", "-f", help="The block's document.", show_default=False)],
        name: Annotated[str | None, typer.Argument(help="Default: the name in the file.", show_default=False)] = None,
        json: Json = False,
    ) -> None:
        """Store a block from a file, replacing the one of that name."""
        from studiolo.client import Client

        found, document, positions = _read(kind, file, name)
        with Client.local() as client:
            try:
                block = client.put_block(kind, found, document)
            except WrongInput as error:
                raise WrongInput(*(positions.located(each) for each in error.problems)) from None
        if json:
            print_json(block)
        else:
            print(f"{kind} {block.name} is stored")

    @commands.command("ls", epilog=examples(f"studiolo {kind} ls", f"studiolo {kind} ls --json"))
    def list_(json: Json = False) -> None:
        """List the blocks, stored and built in."""
        from studiolo.client import Client

        with Client.local() as client:
            blocks = client.blocks(kind)
        if json:
            print_json(blocks)
        elif not blocks:
            note(f"There is none yet: `studiolo {kind} create -f FILE` stores one.")
        else:
            rows = ((block.name, "built in" if block.builtin else "stored", _summary(block)) for block in blocks)
            print_table(("NAME", "ORIGIN", "CONTENT"), rows)

    @commands.command(epilog=examples(f"studiolo {kind} show {example}"))
    def show(name: BlockName, json: Json = False) -> None:
        """Print a block as the document it was made from."""
        from studiolo.client import Client

        with Client.local() as client:
            block = client.block(kind, name)
        if json:
            print_json(block)
        else:
            _print_yaml({"name": block.name, **_without_nothing(block.document)})

    @commands.command(epilog=examples(f"studiolo {kind} rm mine --yes"))
    def rm(name: BlockName, yes: Yes = False) -> None:
        """Forget a stored block. Workspaces made with it keep what they have."""
        from studiolo.client import Client

        with Client.local() as client:
            block = client.block(kind, name)
            confirm(f"Forget {kind} {block.name}?", yes=yes)
            client.delete_block(kind, name)
        print(f"{kind} {name} is forgotten")

    return commands


def _read(kind: BlockKind, file: Path, name: str | None) -> tuple[str, dict[str, Any], Any]:
    """The block's name and its document, checked here for the sake of `file:line:column`, and where things stand."""
    from studiolo.cli.run import read_document
    from studiolo.spec.load import check_block, read_yaml

    tree = read_yaml(read_document(file), str(file))
    data = {**tree.data, "name": name} if name is not None else tree.data
    if "name" not in data:
        raise WrongInput(
            Problem("no-name", f"{file} has no name", f"add name: to it, or studiolo {kind} create NAME -f")
        )
    try:
        found, _ = check_block(kind, data)
    except WrongInput as error:
        raise WrongInput(*(tree.positions.located(each) for each in error.problems)) from None
    if kind == "data" and isinstance(folder := data.get("folder"), str):
        data = {**data, "folder": str((file.parent.resolve() / Path(folder).expanduser()).resolve())}
    return found, data, tree.positions


def _without_nothing(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value not in (None, [], {}, "") and key != "name"}


def _summary(block: Block) -> str:
    shown = _without_nothing(block.document)
    return ", ".join(f"{key} {_brief(key, value)}" for key, value in shown.items())


def _brief(key: str, value: Any) -> str:
    if isinstance(value, list):
        return " ".join(str(item) for item in value)
    if key == "memory" and isinstance(value, int):
        from studiolo.spec.quantity import format_size

        return format_size(value)
    return str(value)


def _print_yaml(document: dict[str, Any]) -> None:
    import sys

    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.dump(document, sys.stdout)
