"""`env`: the environments a workspace has had; comparing them, going back, renewing, checking and handing them on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from studiolo.cli.options import Json, Yes, examples, names
from studiolo.cli.output import Live, confirm, in_words, note, print_fields, print_json, print_table
from studiolo.problem import NotFound, Problem, StudioloError, WrongInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studiolo.client import Client
    from studiolo.resources import Change, Generation, Package, Workspace

commands = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Environments: numbered, compared, rolled back. Without -w they are those of this folder's workspace.",
)

Which = Annotated[
    str | None,
    typer.Option(
        "--workspace",
        "-w",
        help="The workspace; default: that of this folder.",
        autocompletion=names,
        show_default=False,
    ),
]
Number = Annotated[int | None, typer.Argument(help="The generation; default: the current one.", show_default=False)]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return at once.")]


@commands.command("ls", epilog=examples("studiolo env ls", "studiolo env ls --environment data-science --json"))
def list_(
    workspace: Which = None,
    environment: Annotated[
        str | None, typer.Option(help="What workspaces made from this stored environment have had.")
    ] = None,
    json: Json = False,
) -> None:
    """List the generations, from the first to the latest."""
    from studiolo.client import Client

    with Client.local() as client:
        if environment is not None:
            found = client.template_generations(environment)
        else:
            found = client.generations(_workspace(client, workspace).id)
    if json:
        print_json(found)
    elif not found:
        note("There is no generation yet: starting the workspace makes one.")
    else:
        print_table(("N", "STATE", "AGE", "PACKAGES", "PYTHON", "BUILD", "FROM", "BY"), map(_row, found))


def _row(generation: Generation) -> tuple[str, ...]:
    from datetime import UTC, datetime

    words = ["current"] if generation.current else []
    words += ["pinned"] if generation.pinned else []
    words += {"good": [], "bad": ["bad"], "left": ["rolled back"]}[generation.state]
    words += [] if generation.built else ["removed"]
    return (
        str(generation.number),
        ", ".join(words) or "-",
        in_words((datetime.now(UTC) - generation.at).total_seconds()),
        str(generation.packages),
        generation.interpreter or "-",
        f"{generation.seconds:.1f} s" if generation.seconds is not None else "-",
        generation.source,
        generation.by,
    )


@commands.command(epilog=examples("studiolo env show", "studiolo env show 2 --json"))
def show(number: Number = None, workspace: Which = None, json: Json = False) -> None:
    """Show one generation: where it comes from and what is in it."""
    from studiolo.client import Client

    with Client.local() as client:
        found = client.generation(_workspace(client, workspace).id, number)
    if json:
        print_json(found)
        return
    print_fields(
        [
            ("generation", str(found.number)),
            ("id", found.id),
            ("kind", found.kind),
            ("state", found.state + (f": {found.reason}" if found.reason else "")),
            ("python", found.interpreter),
            ("platform", found.platform),
            ("made", f"{found.at:%Y-%m-%d %H:%M} UTC by {found.by}"),
            ("from", found.source),
            *(("input", f"{path} {digest[:16]}") for path, digest in sorted(found.inputs.items())),
            ("build", f"{found.seconds:.1f} s with Studiolo {found.builder}" if found.seconds is not None else ""),
            ("kernel", found.kernel),
            *(("preload", f"{module}{f': {why}' if why else ''}") for module, why in sorted(found.preload.items())),
            *(("note", remark) for remark in found.notes),
        ]
    )
    print()
    print_table(("PACKAGE", "VERSION", "LICENCE"), ((each.name, each.version, each.licence) for each in found.contents))


@commands.command(epilog=examples("studiolo env diff", "studiolo env diff 1 2", "studiolo env diff 3 --json"))
def diff(
    before: Annotated[int | None, typer.Argument(help="Default: the current generation.", show_default=False)] = None,
    after: Annotated[
        int | None, typer.Argument(help="Default: what is in use, with what was installed by hand.", show_default=False)
    ] = None,
    workspace: Which = None,
    json: Json = False,
) -> None:
    """Compare two generations, or one with what is in use; without numbers: what was installed by hand."""
    from studiolo.client import Client

    with Client.local() as client:
        found = client.difference(_workspace(client, workspace).id, before, after)
    if json:
        print_json(found)
        return
    lines = sorted(
        [
            *((each.name, "+", _with_licence(each)) for each in found.added),
            *((each.name, "-", _with_licence(each)) for each in found.removed),
            *((each.name, "~", _changed(each)) for each in found.changed),
        ]
    )
    for name, sign, words in lines:
        print(f"{sign} {name} {words}")
    idle = [f"{each.name} {each.version}" for each in found.overlay if not each.active]
    if idle:
        note(f"installed by hand for another Python, so not in use: {', '.join(idle)}")
    if not lines:
        note("no difference")
    elif after is None and any(each.active for each in found.overlay):
        note("what was installed by hand stays until `studiolo env adopt` takes it into the declaration")


def _with_licence(package: Package) -> str:
    return package.version + (f" ({package.licence})" if package.licence else "")


def _changed(change: Change) -> str:
    relicensed = change.licence_before != change.licence_after and change.licence_before and change.licence_after
    licences = f" ({change.licence_before} → {change.licence_after})" if relicensed else ""
    return f"{change.before} → {change.after}{licences}"


@commands.command(epilog=examples("studiolo env rollback", "studiolo env rollback 2"))
def rollback(
    number: Annotated[
        int | None, typer.Argument(help="Default: the good one before the current.", show_default=False)
    ] = None,
    workspace: Which = None,
    no_wait: NoWait = False,
    json: Json = False,
) -> None:
    """Go to another generation; a running workspace restarts in it. Those after it are not gone to by themselves."""
    from studiolo.client import Client

    with Client.local() as client:
        found = client.rollback(_workspace(client, workspace).id, number)
        _follow(client, found, no_wait=no_wait, json=json)


@commands.command(epilog=examples("studiolo env pin 2", "studiolo env pin --none"))
def pin(
    number: Annotated[int | None, typer.Argument(help="The generation.", show_default=False)] = None,
    none: Annotated[bool, typer.Option("--none", help="Not pinned any more.")] = False,
    workspace: Which = None,
    no_wait: NoWait = False,
    json: Json = False,
) -> None:
    """Stay on one generation, whatever the repository says."""
    from studiolo.client import Client

    if (number is None) != none:
        raise WrongInput(Problem("wrong-usage", "give one number, or --none", "studiolo env ls shows them"))
    with Client.local() as client:
        found = client.pin(_workspace(client, workspace).id, number)
        _follow(client, found, no_wait=no_wait or none, json=json)  # nothing comes of it before a restart


@commands.command(epilog=examples("studiolo env update", "studiolo env update pandas numpy"))
def update(
    packages: Annotated[
        list[str] | None, typer.Argument(metavar="[PKG]...", help="Default: all packages.", show_default=False)
    ] = None,
    workspace: Which = None,
    no_wait: NoWait = False,
    json: Json = False,
) -> None:
    """Build a generation with newer versions of these packages; a running workspace restarts in it when it is built."""
    from studiolo.client import Client

    with Client.local() as client:
        found = client.update(_workspace(client, workspace).id, *(packages or ()))
        _follow(client, found, no_wait=no_wait, json=json)


@commands.command(epilog=examples("studiolo env cancel"))
def cancel(workspace: Which = None, json: Json = False) -> None:
    """Give up the build under way. What is in use stays in use."""
    from studiolo.client import Client

    with Client.local() as client:
        found = client.cancel_build(_workspace(client, workspace).id)
    if json:
        print_json(found)
    else:
        print(f"nothing is built for {found.name} any more")


@commands.command(epilog=examples("studiolo env log", "studiolo env log -f", "studiolo env log 2"))
def log(
    number: Annotated[
        int | None, typer.Argument(help="Default: the build under way, or the latest.", show_default=False)
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the build under way ends.")] = False,
    workspace: Which = None,
    json: Json = False,
) -> None:
    """Print what a build printed. With --json a string a line."""
    import json as encoder

    from studiolo.client import Client

    with Client.local() as client:
        for line in client.build_log(_workspace(client, workspace).id, number, follow=follow):
            print(encoder.dumps(line) if json else line, flush=follow)


@commands.command(epilog=examples("studiolo env adopt", "studiolo env adopt polars"))
def adopt(
    packages: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PKG]...", help="Default: all that was asked for.", show_default=False),
    ] = None,
    workspace: Which = None,
    no_wait: NoWait = False,
    json: Json = False,
) -> None:
    """Take what was installed by hand into the declaration: the workspace's, and studiolo.yaml if there is one."""
    from studiolo.client import Client

    with Client.local() as client:
        adopted = client.adopt(_workspace(client, workspace).id, *(packages or ()))
        written = _write_down(adopted.workspace, adopted.requirements)
        if not json:
            print(f"adopted {', '.join(adopted.requirements)}" + (f", also in {written}" if written else ""))
            if not written:
                note("`studiolo run` takes the document anew: write them into studiolo.yaml or your own lists as well")
        _follow(client, adopted.workspace, no_wait=no_wait, json=json)


def _write_down(workspace: Workspace, requirements: Sequence[str]) -> Path | None:
    """Add them to the repository's studiolo.yaml; None where there is none, or it names a stored environment."""
    from studiolo.spec.edit import add_packages

    file = Path(workspace.repository or "") / "studiolo.yaml"
    if workspace.repository is None or not file.is_file():
        return None
    changed = add_packages(file.read_text(encoding="utf-8"), requirements)
    if changed is None:
        return None
    draft = file.with_name(f".{file.name}.draft")
    draft.write_text(changed, encoding="utf-8")
    draft.replace(file)
    return file


@commands.command(
    epilog=examples(
        "studiolo env export requirements", "studiolo env export dockerfile -o build/", "studiolo env export pylock 2"
    )
)
def export(
    form: Annotated[str, typer.Argument(metavar="FORMAT", help="pylock, requirements, dockerfile or flake.")],
    number: Number = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A folder for the files.")] = None,
    workspace: Which = None,
    json: Json = False,
) -> None:
    """Write a generation's lock for other tools."""
    from studiolo.client import Client

    with Client.local() as client:
        found = client.export(_workspace(client, workspace).id, form, number)
    if json:
        print_json(found)
    elif output is not None:
        output.mkdir(parents=True, exist_ok=True)
        for name, text in found.files.items():
            (output / name).write_text(text, encoding="utf-8")
            print(output / name)
    else:
        for name, text in found.files.items():
            print((f"# {name}\n" if len(found.files) > 1 else "") + text, end="")


@commands.command(epilog=examples("studiolo env sbom > analysis.cdx.json"))
def sbom(number: Number = None, workspace: Which = None) -> None:
    """Print a generation's bill of materials: CycloneDX, as JSON."""
    from studiolo.client import Client

    with Client.local() as client:
        print_json(client.sbom(_workspace(client, workspace).id, number))


@commands.command(epilog=examples("studiolo env verify", "studiolo env verify 2 --json"))
def verify(number: Number = None, workspace: Which = None, json: Json = False) -> None:
    """Build a generation again from nothing and compare it file by file. Exit status 1 where they differ."""
    from studiolo.client import Client

    live = Live(quiet=json)
    result = None
    with Client.local() as client:
        for line in client.verify(_workspace(client, workspace).id, number):
            if line.done:
                result = line
            else:
                live.now(line.progress)
    live.clear()
    if result is None:
        raise StudioloError(Problem("verify-failed", "it could not be built again", "see logs/control-plane.log"))
    if result.problem is not None:
        raise StudioloError(Problem(result.problem.code, result.problem.message, result.problem.hint))
    if json:
        print_json(result)
    else:
        for difference in result.differences:
            print(f"{difference.path}: {difference.what}")
        same = "the same" if result.same else f"not the same: {len(result.differences)} of them differ"
        print(f"{result.files} files, {same}; built again in {result.seconds:.1f} s")
    if not result.same:
        raise typer.Exit(1)


@commands.command(epilog=examples("studiolo env gc --dry-run", "studiolo env gc --keep 1 --downloads --yes"))
def gc(
    keep: Annotated[int, typer.Option(min=0, help="Good generations to keep for each workspace.")] = 3,
    downloads: Annotated[bool, typer.Option("--downloads", help="Remove what was downloaded, too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Remove generations that nobody needs. What is in use, pinned or among the latest stays."""
    from studiolo.client import Client
    from studiolo.spec.quantity import format_size

    with Client.local() as client:
        found = client.collect(keep=keep, dry_run=True, downloads=downloads)
        if not dry_run:
            count = len(found.generations)
            if count or downloads:
                confirm(f"Remove {count} generations ({format_size(found.freed)}) and keep {found.kept}?", yes=yes)
            found = client.collect(keep=keep, downloads=downloads)
    if json:
        print_json(found)
        return
    verb = "would be removed" if found.dry_run else "removed"
    shared = f"; {format_size(found.shared)} of theirs are shared and stay" if found.shared else ""
    print(f"{len(found.generations)} generations {verb}, {format_size(found.freed)} freed{shared}; {found.kept} kept")


def _follow(client: Client, asked: Workspace, *, no_wait: bool, json: bool) -> None:
    from studiolo.cli.watch import follow_renewal

    workspace = asked if no_wait else follow_renewal(client, asked, Live(quiet=json))
    if json:
        print_json(workspace)
        return
    current = next((each for each in client.generations(workspace.id) if each.current), None)
    where = f" on generation {current.number}" if current else ""
    print(f"{workspace.name} is {workspace.phase}{where}" + (f": {workspace.environment}" if current else ""))
    for remark in workspace.notes if not no_wait else ():
        note(f"note: {remark}")


def _workspace(client: Client, name: str | None) -> Workspace:
    """The one named, else the one of this folder. Raises `NotFound`, `WrongInput` where it is not clear which."""
    if name is not None:
        return client.workspace(name)
    here = Path.cwd().resolve()
    folders = {str(folder) for folder in (here, *here.parents)}
    every = client.workspaces()
    found = [each for each in every if each.repository in folders]
    if len(found) == 1:
        return found[0]
    if not found:
        there = ", ".join(each.name for each in every) or "there is none yet"
        raise NotFound(
            Problem("workspace-unknown", f"no workspace belongs to this folder: {there}", "name one with -w NAME")
        )
    raise WrongInput(
        Problem(
            "workspace-ambiguous",
            f"several workspaces belong to this folder: {', '.join(each.name for each in found)}",
            "name one with -w NAME",
        )
    )
