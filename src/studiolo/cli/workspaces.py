"""Commands on workspaces: list, show, open, logs, start, stop, remove, token."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from studiolo.cli.options import AppName, Json, Name, Yes, examples
from studiolo.cli.output import (
    Live,
    confirm,
    in_words,
    note,
    open_in_browser,
    print_fields,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from studiolo.resources import Workspace

commands = typer.Typer()

NoWait = Annotated[bool, typer.Option("--no-wait", help="Return at once.")]


@commands.command(epilog=examples("studiolo ps", "studiolo ps --json"))
def ps(json: Json = False) -> None:
    """List the workspaces."""
    from studiolo.client import Client

    with Client.local() as client:
        found = client.workspaces()
    if json:
        print_json(found)
    elif not found:
        note("There is no workspace yet: `studiolo run` in a repository makes one.")
    else:
        print_table(("NAME", "OWNER", "PROJECT", "PHASE", "FOR", "APPS", "CPU", "MEMORY"), map(_row, found))


def _row(workspace: Workspace) -> tuple[str, ...]:
    from studiolo.spec.quantity import format_size

    usage = workspace.usage if workspace.phase == "running" else None
    return (
        workspace.name,
        workspace.owner,
        workspace.project,
        workspace.phase,
        _running_for(workspace),
        " ".join(app.name for app in workspace.apps),
        f"{usage.cpu:.1f}" if usage else "-",
        format_size(usage.memory) if usage else "-",
    )


def _running_for(workspace: Workspace) -> str:
    if workspace.phase != "running" or workspace.started is None:
        return "-"
    return in_words((datetime.now(UTC) - workspace.started).total_seconds())


@commands.command(epilog=examples("studiolo show analysis", "studiolo show analysis --json"))
def show(name: Name, json: Json = False) -> None:
    """Show one workspace: phase, apps, environment, home."""
    from studiolo.client import Client

    with Client.local() as client:
        found = client.workspace(name)
    if json:
        print_json(found)
        return
    reason = found.reason
    print_fields(
        [
            ("name", found.name),
            ("id", found.id),
            ("owner", found.owner),
            ("project", found.project),
            ("backend", found.backend),
            ("phase", found.phase + (f": {found.progress}" if found.progress else "")),
            ("reason", f"{reason.message}" if reason else ""),
            ("hint", reason.hint if reason else ""),
            ("running for", _running_for(found)),
            ("repository", found.repository or ""),
            ("home", found.home),
            ("environment", found.environment),
            ("generation", (found.generation or "") + (f" (pinned: {found.pinned})" if found.pinned else "")),
            ("rescue", "yes" if found.rescue else ""),
            ("trouble", found.trouble.message if found.trouble else ""),
            (
                "stages",
                ", ".join(f"{each.name} {each.seconds:.1f} s" for each in found.stages if each.seconds is not None),
            ),
            *(
                (f"app {app.name}", f"{app.state}  {app.url}" + (f"  {app.reason}" if app.reason else ""))
                for app in found.apps
            ),
            ("kept ready", _kept_ready(found)),
            *(("note", remark) for remark in found.notes),
        ]
    )


def _kept_ready(workspace: Workspace) -> str:
    from studiolo.spec.quantity import format_size

    pool = workspace.pool
    if pool is None:
        return ""
    memory = f", {format_size(pool.memory)} of memory" if pool.memory else ""
    return f"{pool.ready} of {pool.wanted}{memory}" + (f": {pool.reason}" if pool.reason else "")


@commands.command("open", epilog=examples("studiolo open analysis", "studiolo open analysis vscode --print"))
def open_(
    name: Name,
    app: AppName = None,
    print_only: Annotated[bool, typer.Option("--print", help="Print the link only.")] = False,
    json: Json = False,
) -> None:
    """Open an app in the browser, signed in. Prints the link, which works once. A stopped workspace wakes by it."""
    from studiolo.client import Client

    with Client.local() as client:
        link = client.link(name, app)
    if json:
        print_json(link)
        return
    print(link.url, flush=True)
    if not print_only:
        open_in_browser(link.url)


@commands.command(epilog=examples("studiolo logs analysis", "studiolo logs -f analysis --app jupyterlab"))
def logs(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines as they come.")] = False,
    app: Annotated[str | None, typer.Option(help="Of this app only.")] = None,
    tail: Annotated[int, typer.Option(min=0, max=100_000, help="How many of the last lines of each app.")] = 200,
    json: Json = False,
) -> None:
    """Print what the apps print. With --json an object a line."""
    from studiolo.client import Client

    with Client.local() as client:
        for line in client.logs(name, app=app, follow=follow, tail=tail):
            if json:
                print(line.model_dump_json(), flush=follow)
            else:
                print(line.text if app else f"{line.app} | {line.text}", flush=follow)


@commands.command(epilog=examples("studiolo stop analysis"))
def stop(name: Name, no_wait: NoWait = False, json: Json = False) -> None:
    """Stop a workspace. Its files stay, and opening its link wakes it."""
    from studiolo.cli.watch import follow
    from studiolo.client import Client

    with Client.local() as client:
        workspace = client.stop(name)
        if not no_wait:
            workspace = follow(client, workspace, "stopped", Live(quiet=json))
    _done(workspace, "stopping" if no_wait else workspace.phase, json)


@commands.command(epilog=examples("studiolo start analysis", "studiolo start analysis --rescue"))
def start(
    name: Name,
    rescue: Annotated[
        bool, typer.Option("--rescue", help="In a minimal environment that always starts; the home is there.")
    ] = False,
    no_wait: NoWait = False,
    json: Json = False,
) -> None:
    """Start a stopped or failed workspace and show its stages."""
    from studiolo.cli.watch import follow
    from studiolo.client import Client

    with Client.local() as client:
        workspace = client.start(name, rescue=rescue)
        if not no_wait:
            workspace = follow(client, workspace, "running", Live(quiet=json))
    _done(workspace, "starting" if no_wait else workspace.phase, json)


@commands.command(epilog=examples("studiolo restart analysis"))
def restart(name: Name, no_wait: NoWait = False, json: Json = False) -> None:
    """Start a workspace anew, in the environment its repository asks for now.

    It goes on running until that is built. Where it cannot be built, it starts in the environment it had.
    """
    from studiolo.cli.watch import follow, refuse_trouble
    from studiolo.client import Client

    with Client.local() as client:
        workspace = client.restart(name)
        if not no_wait:
            workspace = follow(client, workspace, "running", Live(quiet=json))
    if not no_wait:
        refuse_trouble(workspace)
    _done(workspace, "restarting" if no_wait else workspace.phase, json)


def _done(workspace: Workspace, state: str, json: bool) -> None:
    if json:
        print_json(workspace)
    else:
        print(f"{workspace.name} is {state}")


@commands.command(epilog=examples("studiolo rm analysis", "studiolo rm analysis --purge --yes"))
def rm(
    name: Name,
    purge: Annotated[bool, typer.Option("--purge", help="Delete its home too, for good.")] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Remove a workspace. Its home, the person's files, stays unless --purge is given."""
    from studiolo.cli.watch import follow_deletion
    from studiolo.client import Client

    with Client.local() as client:
        workspace = client.workspace(name)
        fate = "delete" if purge else "keep"
        confirm(f"Remove workspace {workspace.name} ({workspace.phase}) and {fate} its home {workspace.home}?", yes=yes)
        workspace = client.delete(workspace.id, purge=purge)
        follow_deletion(client, workspace)
    if json:
        print_json(workspace)
    else:
        print(f"{workspace.name} is removed" + ("" if purge else f"; its home is kept: {workspace.home}"))


@commands.command(epilog=examples("studiolo token analysis", "studiolo token analysis vscode --json"))
def token(name: Name, app: AppName = None, json: Json = False) -> None:
    """Print a token that lets a program into an app, as `Authorization: token ...`. --json tells the address too."""
    from studiolo.client import Client

    with Client.local() as client:
        made = client.token(name, app)
    if json:
        print_json(made)
    else:
        print(made.token)
