"""`run`: from a folder or a Git URL to an open workspace."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studiolo.cli.options import Json, NoBrowser, examples
from studiolo.cli.output import Live, note, open_in_browser, print_json
from studiolo.problem import Conflict, NotFound, Problem, Unavailable, WrongInput

if TYPE_CHECKING:
    from studiolo.client import Client
    from studiolo.layout import Layout
    from studiolo.resources import WorkspaceCreate
    from studiolo.spec.load import LoadedWorkspace, Positions

commands = typer.Typer()

FILE = "studiolo.yaml"


@commands.command(
    epilog=examples(
        "studiolo run",
        "studiolo run ~/analysis --name trial",
        "studiolo run https://github.com/ada/notes.git",
        "studiolo run -f team.yaml -P year=2026",
    )
)
def run(
    source: Annotated[
        str | None, typer.Argument(metavar="PATH|GIT_URL", help="The repository; default: this folder.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", help=f"The workspace's document; default: {FILE} in the folder, if there is one."),
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option("--param", "-P", metavar="NAME=VALUE", help="A parameter of the document.")
    ] = None,
    project: Annotated[str, typer.Option("--project", "-p", help="The project it belongs to.")] = "default",
    name: Annotated[str | None, typer.Option(help="Default: the document's name, or the folder's.")] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Do not wait until it is ready; its link shows the progress.")
    ] = False,
    no_browser: NoBrowser = False,
    json: Json = False,
) -> None:
    """Open a repository as a workspace: make it, start it, print its link.

    Shows the stages as they happen and ends once it is ready; the workspace goes on. Run again on the same repository
    it takes the changes of the document and restarts only where there are some. Starts Studiolo where it does not run.
    """
    from studiolo.cli.watch import follow, refuse_trouble
    from studiolo.client import Client
    from studiolo.layout import Layout

    layout = Layout.from_environment()
    live = Live(quiet=json)
    wish = read_wish(source, file, param or [], name=name, project=project)
    _ensure_up(layout, live)
    with Client.local(layout) as client:
        known = _same_repository(client, wish)
        try:
            workspace = client.create(wish.resource(replace=known))
        except WrongInput as error:
            raise wish.located(error) from None
        if not detach and workspace.phase != "running":
            live.line(f"{'starting' if known else 'making'} {workspace.name}")
            try:
                workspace = follow(client, workspace, "running", live, fresh=not known)
            except KeyboardInterrupt:
                note(f"the start of {workspace.name} goes on; `studiolo stop {workspace.name}` stops it")
                raise
            for remark in workspace.notes:
                note(f"note: {remark}")
        link = client.link(workspace.id).url
    if not detach and workspace.trouble is not None and not json:
        print(link, flush=True)
        refuse_trouble(workspace)
    if json:
        print_json({"workspace": workspace, "link": link})
        return
    print(link, flush=True)
    if not no_browser and not detach:
        open_in_browser(link)


def _ensure_up(layout: Layout, live: Live) -> None:
    from studiolo.cli.control_plane import bring_up
    from studiolo.client import Client

    try:
        with Client.local(layout) as client:
            client.me()
    except Unavailable:
        ready = bring_up(layout, None, lambda stage: live.now(stage))
        live.line(f"Studiolo is up at {ready.url}")


@dataclass(frozen=True)
class Wish:
    """What is asked for, and where in which file it was written."""

    document: dict[str, Any]
    params: dict[str, str]
    name: str
    project: str
    repository: str | None
    positions: Positions | None

    def resource(self, *, replace: bool) -> WorkspaceCreate:
        from studiolo.resources import WorkspaceCreate

        return WorkspaceCreate(
            document=self.document,
            name=self.name,
            project=self.project,
            repository=self.repository,
            params=self.params,
            replace=replace,
        )

    def located(self, error: WrongInput) -> WrongInput:
        """The server's problems at their places in the file, where they stand in it."""
        if self.positions is None:
            return error
        positions = self.positions
        return WrongInput(
            *(positions.located(each) if _root(each.where) in self.document else each for each in error.problems)
        )


def _root(field_path: str) -> str:
    return field_path.partition(".")[0].partition("[")[0]


def read_wish(source: str | None, file: Path | None, pairs: list[str], *, name: str | None, project: str) -> Wish:
    """What the command line and the document ask for, with every path absolute. Raises `WrongInput`."""
    from studiolo.spec.repository import is_git_url, repository_name

    given = params(pairs)
    folder, repository = None, None
    if source is not None and is_git_url(source):
        repository = source
    elif source is not None or file is None:
        folder = _folder(source or ".")
        file = file or (folder / FILE if (folder / FILE).is_file() else None)
    if file is None:
        if given:
            raise WrongInput(Problem("no-document", "-P needs a document that declares it", f"write {FILE} or add -f"))
        document = _of_devcontainer(Path(source or "").expanduser()) if folder is not None else {}
        repository = repository or str(folder)
        return Wish(document, given, name or repository_name(repository), project, repository, None)
    loaded = load(file, given)
    base = file.parent.resolve()
    if repository is None:
        # The document's own repository counts, unless a folder was named beside another document.
        if loaded.document.repository is not None and (source is None or base == folder):
            written = loaded.document.repository
            repository = written if is_git_url(written) else _absolute(base, written)
        else:
            repository = str(folder or base)
    chosen = name or loaded.document.name or repository_name(repository)
    return Wish(_with_absolute_folders(loaded, base), given, chosen, project, repository, loaded.positions)


def _of_devcontainer(folder: Path) -> dict[str, Any]:
    """What the folder's devcontainer.json asks for, as a document; says what of it is taken and what is not.

    Not its name, which templates give to all that is made from them, and not its image: workspaces of this machine are
    processes, so their environment is detected as in every other repository.
    """
    if not any((folder / name).exists() for name in (".devcontainer", ".devcontainer.json")):
        return {}
    from studiolo.control.declaration import devcontainer

    try:
        found = devcontainer(folder)
    except WrongInput as error:
        for problem in error.problems:
            note(f"its devcontainer.json is left alone: {problem}")
        return {}
    if found is None:
        return {}
    document = dict(found.imported.document)
    image = document.pop("environment", None)
    document.pop("name", None)
    if document:
        note(f"taken from {found.file}: {_in_words(document)}")
    if image is not None:
        note(f"not taken from {found.file}: its image; the environment is detected from the repository")
    for problem in found.imported.unhonoured:
        note(f"not taken: {problem}")
    return document


def _in_words(document: dict[str, Any]) -> str:
    """The parts of a document made from a devcontainer.json, for people."""
    apps = [app for app in document.get("apps", ()) if isinstance(app, dict)]
    extensions = [each for app in apps for each in app.get("extensions", ())]
    ports = [f"{app['port']} as {app['name']}" for app in apps if "port" in app]
    parts = {
        "extensions": extensions,
        "ports": ports,
        "variables": document.get("env", ()),
        "compute": [f"{key} {value}" for key, value in document.get("compute", {}).items()],
        "commands": document.get("setup", ()),
    }
    return "; ".join(f"{name} {', '.join(each)}" for name, each in parts.items() if each)


def params(pairs: list[str]) -> dict[str, str]:
    """`-P NAME=VALUE` as a mapping. Raises `WrongInput`."""
    given = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise WrongInput(Problem("wrong-param", f'-P "{pair}" is not NAME=VALUE', "write it like -P year=2026"))
        given[key] = value
    return given


def _folder(source: str) -> Path:
    folder = Path(source).expanduser()
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        hint = "name a folder, or an https:// Git URL; a document is given with -f"
        raise WrongInput(Problem("no-folder", f"{source} {what}", hint))
    return folder.resolve()


def load(file: Path, given: dict[str, str]) -> LoadedWorkspace:
    """Read and check a document. Raises `WrongInput`."""
    from studiolo.spec.load import load_workspace

    return load_workspace(read_document(file), str(file), given)


def read_document(file: Path) -> bytes:
    """A document's bytes. Raises `WrongInput` where there is none."""
    # Far above what a document may be, far below what would hurt: `-f /dev/zero` ends too.
    limit = 2**20
    try:
        with file.open("rb") as opened:
            return opened.read(limit)
    except OSError as error:
        raise WrongInput(Problem("no-file", f"{file} cannot be read: {error.strerror}")) from None


def _with_absolute_folders(loaded: LoadedWorkspace, base: Path) -> dict[str, Any]:
    """The data as written, its relative folders (after parameters) resolved against the document's own folder."""
    from studiolo.spec.document import DataSource

    data = dict(loaded.data)
    if not isinstance(data.get("data"), list):
        return data
    sources: list[Any] = list(data["data"])
    for index, source in enumerate(loaded.document.data):
        if isinstance(source, DataSource) and source.folder is not None:
            sources[index] = {**sources[index], "folder": _absolute(base, source.folder)}
    return {**data, "data": sources}


def _absolute(base: Path, written: str) -> str:
    return str((base / Path(written).expanduser()).resolve())


def _same_repository(client: Client, wish: Wish) -> bool:
    """Whether the workspace is there already, for this repository. Raises `Conflict` where it is for another one."""
    try:
        found = client.workspace(wish.name)
    except NotFound:
        return False
    if found.repository != wish.repository:
        raise Conflict(
            Problem(
                "name-taken",
                f"there is a workspace named {wish.name} already, for {found.repository or 'no repository'}",
                "choose another name with --name",
            )
        )
    return True
