"""Real flakes, evaluated and built by the real Nix. What they build needs a shell and nothing that is downloaded."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import http.server
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tarfile
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from studiolo.environments import flake_program, flake_source
from studiolo.environments.flake import FlakeKind
from studiolo.environments.flake_program import system
from studiolo.environments.flake_template import TemplateKind, template
from studiolo.environments.generations import Generations
from studiolo.environments.kind import Activation, Lock, Progress, Request, Upgrade
from studiolo.problem import StudioloError, Unavailable, WrongInput
from studiolo.process import end_orphans

pytestmark = pytest.mark.skipif(shutil.which("nix") is None, reason="nix is not installed (Debian: nix-bin)")

ROOT = Path(__file__).parents[2]
SYSTEM = system()

# Nothing is downloaded, and builds may use the system's programs, for there are no others, and write into the tests'
# folders.
TOKEN = secrets.token_hex(8)
"""Makes all that these tests build new to the store, which outlives them."""
SETTINGS = "substituters =\nsandbox = false\nbuild-users-group =\nflake-registry = /dev/null"

FLAKE = r"""{
  inputs = { @inputs@ };
  outputs = { self, ... }@inputs:
    let
      system = "@system@";
      make = name: script: derivation {
        inherit name system;
        builder = "/bin/bash";
        # not `mkdir $out` as the last word: it closes its output before it ends, and Nix kills who has done so
        args = [ "-e" "-c" "${script}\nexit 0" ];
        PATH = "/usr/bin:/bin";
        token = "@token@";
      };
      program = name: words: make name ''
        mkdir -p $out/bin
        cp ${builtins.toFile "tool" "#!/bin/sh\n${words}\n"} $out/bin/tool
        chmod +x $out/bin/tool
      '';
      # as nixpkgs' mkShell does it: the folders of what it is given are on PATH
      setup = builtins.toFile "setup" "outputs=out; for each in $buildInputs; do PATH=$PATH:$each/bin; done";
      stdenv = make "stdenv" "mkdir $out; cp ${setup} $out/setup";
      shell = more: derivation ({ inherit system stdenv; name = "shell"; builder = "/bin/bash"; } // more)
        // { inherit (more) buildInputs; };
    in {
@outputs@
    };
}
"""


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIX_CONFIG", SETTINGS)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def kind(cache: Path) -> FlakeKind:
    return FlakeKind(cache)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    return folder


@pytest.fixture
def store(tmp_path: Path, kind: FlakeKind, cache: Path) -> Generations:
    return Generations(tmp_path / "generations", cache, {"flake": kind}, reserve=0)


def ignore(_: Progress) -> None: ...


def write(folder: Path, outputs: str, inputs: str = "") -> None:
    text = FLAKE.replace("@inputs@", inputs).replace("@outputs@", outputs)
    (folder / "flake.nix").write_text(text.replace("@system@", SYSTEM).replace("@token@", TOKEN))


def package(body: str) -> str:
    return f"packages.@system@.default = {body};"


def git(folder: Path, *arguments: str) -> None:
    name = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    subprocess.run(["git", *name, *arguments], cwd=folder, check=True, capture_output=True)


def fingerprint(folder: Path) -> str:
    parts = [
        (str(path), path.read_bytes() if path.is_file() else b"", path.lstat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    ]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def enter(activation: Activation, command: str, cwd: Path, **more: str) -> str:
    """What a command prints in a terminal of the workspace."""
    env = {**activation.env, "HOME": str(cwd), "PATH": ":".join([*activation.path, "/usr/bin:/bin"]), **more}
    ended = subprocess.run(["/bin/bash", "-c", command], cwd=cwd, env=env, text=True, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


async def test_a_package_is_locked_built_and_on_path(kind: FlakeKind, repository: Path, store: Generations) -> None:
    write(repository, package('program "tool-1.2" "echo hi"'))
    heard: list[Progress] = []
    lock = await kind.lock(Request(repository), ignore)
    generation = await store.build(lock, heard.append)
    assert [(each.name, each.version, each.purl) for each in kind.describe(lock)] == [
        ("tool", "1.2", "pkg:nix/tool@1.2")
    ]
    assert generation.packages == 1
    activation = kind.activate(lock, generation.folder)
    assert enter(activation, "tool", repository) == "hi\n"
    assert activation.interpreter is None
    assert Progress("building tool-1.2", 1, 1) in heard
    assert "tool-1.2.drv" in (generation.folder / "build.log").read_text()
    listed = subprocess.run(
        ["nix-env", "--profile", generation.folder / "profile", "--list-generations"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "(current)" in listed.stdout, "a profile that Nix's own programs know"
    files = await kind.export(lock, "flake")
    assert files["flake.nix"] == (repository / "flake.nix").read_text()
    assert json.loads(files["flake.lock"])["version"] == 7


async def test_a_shell_gives_its_variables_and_programs(kind: FlakeKind, repository: Path, store: Generations) -> None:
    tool = '(program "tool-1.2" "echo hi" // { pname = "tool"; version = "1.2"; meta.license.spdxId = "MIT"; })'
    gathered = (
        '(make "env" "mkdir $out" // { paths = [ (make "inner-3" "mkdir $out") (make "other-4" "mkdir $out") ]; })'
    )
    write(
        repository,
        f"""devShells.@system@.default = shell {{
          buildInputs = [ {tool} {gathered} ]; DATA = "/srv/data"; shellHook = "echo never";
        }};
        packages.@system@.default = make "not-this-one" "exit 1";""",
    )
    lock = await kind.lock(Request(repository), ignore)
    assert [(each.name, each.version, each.licence) for each in kind.describe(lock)] == [
        ("inner", "3", ""),
        ("other", "4", ""),
        ("tool", "1.2", "MIT"),
    ]
    generation = await store.build(lock, ignore)
    activation = kind.activate(lock, generation.folder)
    assert enter(activation, 'echo "$(tool) $DATA $HOME"', repository) == f"hi /srv/data {repository}\n"
    assert set(activation.env) <= {"DATA", "IN_NIX_SHELL", "NIX_CONFIG"}
    assert "shellHook is not run" in (generation.folder / "build.log").read_text()


@pytest.mark.parametrize("kernel", [True, False])
async def test_notebooks_run_on_the_environments_python(
    kind: FlakeKind, repository: Path, store: Generations, small_environment: Path, kernel: bool
) -> None:
    python = small_environment / "bin" / "python" if kernel else Path("/usr/bin/python3 -I -S")
    write(repository, package('make "py" "mkdir -p $out/bin; cp ${./python3} $out/bin/python3"'))
    (repository / "python3").write_text(f'#!/bin/sh\nexec {python} "$@"\n')
    (repository / "python3").chmod(0o755)
    lock = await kind.lock(Request(repository), ignore)
    generation = await store.build(lock, ignore)
    found = kind.activate(lock, generation.folder).interpreter
    assert found == (str(generation.folder / "profile" / "bin" / "python3") if kernel else None)
    assert ("cannot import ipykernel" in (generation.folder / "build.log").read_text()) is not kernel


async def test_nix_works_in_a_workspaces_terminals(kind: FlakeKind, repository: Path, store: Generations) -> None:
    write(
        repository,
        package('program "tool-1.2" "echo hi"') + "devShells.@system@.default = shell { buildInputs = []; };",
    )
    lock = await kind.lock(Request(repository), ignore)
    activation = kind.activate(lock, (await store.build(lock, ignore)).folder)
    config = f"{activation.env['NIX_CONFIG']}\n{SETTINGS}"
    assert enter(activation, "nix build && result/bin/tool", repository, NIX_CONFIG=config) == "hi\n"
    assert "inside" in enter(activation, "nix develop --command echo inside", repository, NIX_CONFIG=config)


async def test_a_lock_is_of_what_is_used_and_nothing_is_written(
    kind: FlakeKind, repository: Path, tmp_path: Path, store: Generations
) -> None:
    write(repository, package('program "tool" "cat ${./words.txt}"'))
    (repository / "words.txt").write_text("first")
    (repository / "notes.md").write_text("1")
    git(repository, "init", "-q")
    git(repository, "add", ".")
    (repository / "untracked").write_text("x")
    before = fingerprint(repository)
    first = await kind.lock(Request(repository), ignore)
    assert fingerprint(repository) == before
    (repository / "notes.md").write_text("2")
    git(repository, "-c", "commit.gpgsign=false", "commit", "-qam", "a commit makes no difference either")
    assert (await kind.lock(Request(repository), ignore)).id == first.id
    (repository / "words.txt").write_text("second")
    second = await kind.lock(Request(repository), ignore)
    assert second.id != first.id
    assert str(tmp_path) not in first.text
    shutil.rmtree(repository)
    for lock, words in ((first, "first"), (second, "second")):
        activation = kind.activate(lock, (await store.build(lock, ignore)).folder)
        assert enter(activation, "tool", tmp_path) == words, "what was locked, though the repository is gone"


async def test_folders_attributes_and_names_with_spaces(repository: Path, tmp_path: Path) -> None:
    kind = FlakeKind(tmp_path / "a cache")
    part = repository / "sub folder"
    part.mkdir()
    write(part, 'packages.@system@.named = program "tool" "cat ${../words.txt}";')
    (repository / "words.txt").write_text("from above")
    (repository / ".envrc").write_text("use flake './sub folder#named'\n")
    lock = await kind.lock(Request(repository), ignore)
    assert json.loads(lock.text)["attribute"] == f"packages.{SYSTEM}.named"
    assert lock.facts["source"] == ".envrc"
    target = tmp_path / "a generation"
    target.mkdir()
    await kind.build(lock, target, ignore)
    assert enter(kind.activate(lock, target), "tool", tmp_path) == "from above"
    with pytest.raises(WrongInput) as caught:
        await kind.lock(Request(repository, project="sub folder"), ignore)
    assert caught.value.problem.code == "flake-attribute"
    assert f"devShells.{SYSTEM}.default" in caught.value.problem.hint


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """An input on a web server: each call publishes a version of it and returns its address."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None: ...

    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    thread = threading.Thread(target=served.serve_forever)
    thread.start()

    def publish(version: str) -> str:
        source = tmp_path / version / "words"
        source.mkdir(parents=True)
        (source / "flake.nix").write_text(f'{{ outputs = {{ self }}: {{ version = "{version}"; }}; }}')
        with tarfile.open(folder / "words.tar.gz", "w:gz") as archive:
            archive.add(source, "words")
        return f"http://127.0.0.1:{served.server_port}/words.tar.gz"

    yield publish
    served.shutdown()
    thread.join()
    served.server_close()


async def test_inputs_are_locked_kept_and_updated(
    kind: FlakeKind, repository: Path, server: Callable[[str], str]
) -> None:
    address = server("1")
    write(repository, package('program "tool-${inputs.words.version}" "true"'), f'words.url = "{address}";')

    def version(lock: Lock) -> str:
        return kind.describe(lock)[0].version

    first = await kind.lock(Request(repository), ignore)
    assert not (repository / "flake.lock").exists()
    server("2")
    assert version(first) == "1"
    kept = await kind.lock(Request(repository, previous=first), ignore)
    assert kept.id == first.id
    newer = await kind.lock(Request(repository, previous=first, upgrade=Upgrade(("words",))), ignore)
    assert version(newer) == "2"
    server("3")
    assert version(await kind.lock(Request(repository, previous=newer, upgrade=Upgrade()), ignore)) == "3"
    (repository / "flake.lock").write_text((await kind.export(newer, "flake"))["flake.lock"])
    assert (await kind.lock(Request(repository), ignore)).id == newer.id, "the repository's own lock counts"
    with pytest.raises(WrongInput) as caught:
        await kind.lock(Request(repository, upgrade=Upgrade(("wrods",))), ignore)
    assert "wrods" in caught.value.problem.message
    assert "words" in caught.value.problem.hint


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/x.tar.gz", "git+http://127.0.0.1:9/x"])
async def test_an_input_that_cannot_be_fetched(
    kind: FlakeKind, repository: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIX_CONFIG", f"{SETTINGS}\ndownload-attempts = 1")
    write(repository, package('make "x" "true"'), f'words.url = "{address}";')
    with pytest.raises(Unavailable) as caught:
        await kind.lock(Request(repository), ignore)
    assert caught.value.problem.code == "flake-input-unreachable"
    assert "127.0.0.1" in caught.value.problem.message


@pytest.mark.parametrize(
    ("outputs", "words", "where"),
    [
        (package('make "x" pandsa'), "undefined variable 'pandsa'", "flake.nix:25:42"),
        (package("import ./part.nix"), "syntax error, unexpected end of file", "part.nix:2:3"),
        (package('throw "this needs a GPU"'), "this needs a GPU", ""),
        (package("builtins.readFile /etc/hostname"), "/etc/hostname", ""),
        ("packages = ", "syntax error", "flake.nix:26:5"),
        (package("3"), "is no derivation", "flake.nix"),
        ("apps = { };", "none of devShells", "flake.nix"),
    ],
)
async def test_a_flake_that_does_not_evaluate(
    kind: FlakeKind, repository: Path, outputs: str, words: str, where: str
) -> None:
    write(repository, outputs)
    (repository / "part.nix").write_text("{\n  a")
    with pytest.raises(WrongInput) as caught:
        await kind.lock(Request(repository), ignore)
    problem = caught.value.problem
    assert words in problem.message
    assert "/nix/store" not in problem.message
    assert problem.where.startswith(where)


async def test_what_a_flake_may_not_ask_for(kind: FlakeKind, repository: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "flake.nix").write_text("{ outputs = { self }: { }; }")
    for address in (f"path:{outside}", f"git+file://{outside}", f"file://{outside}/x.tar.gz"):
        lock = {
            "nodes": {"far": {"original": {"type": "tarball", "url": f"file://{outside}"}}, "root": {}},
            "root": "root",
            "version": 7,
        }
        (repository / "flake.lock").write_text(json.dumps(lock))
        write(repository, package('make "x" "true"'), f'far = {{ url = "{address}"; flake = false; }};')
        with pytest.raises(WrongInput) as caught:
            await kind.lock(Request(repository), ignore)
        assert caught.value.problem.code == "flake-input-local"
    (repository / "flake.lock").unlink()
    write(repository, package('make "x" "true"'), f'far.url = "path:{outside}";')
    with pytest.raises(WrongInput) as caught:
        await kind.lock(Request(repository), ignore)
    assert caught.value.problem.code == "flake-input-local"
    (repository / "flake.lock").write_text("[]")
    with pytest.raises(WrongInput) as caught:
        await kind.lock(Request(repository), ignore)
    assert (caught.value.problem.code, caught.value.problem.where) == ("lock-unreadable", "flake.lock")
    with pytest.raises(WrongInput) as caught:
        await kind.lock(Request(repository, packages=("numpy",)), ignore)
    assert caught.value.problem.code == "flake-packages"


async def test_links_lead_nowhere(kind: FlakeKind, repository: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("secret")
    write(repository, package('make "x" "ls -R ${./.} > $out"'))
    folder = repository / "folder"
    folder.mkdir()
    (folder / "key").write_text("mine")
    (repository / "near").symlink_to("folder/key")
    (repository / "far").symlink_to(secret / "key")
    (repository / "up").symlink_to("../secret")
    os.mkfifo(repository / "pipe")
    git(repository, "init", "-q")
    git(repository, "add", ".")
    shutil.rmtree(folder)
    folder.symlink_to(secret)
    lock = await kind.lock(Request(repository), ignore)
    target = tmp_path / "target"
    target.mkdir()
    await kind.build(lock, target, ignore)
    listed = (target / "profile").read_text().split()
    assert "flake.nix" in listed
    assert not {"key", "far", "up", "secret"} & set(listed)
    (repository / "flake.nix").unlink()
    (repository / "flake.nix").symlink_to("/etc/hostname")
    with pytest.raises(WrongInput):
        kind.inputs(Request(repository))
    with pytest.raises(WrongInput):
        await kind.lock(Request(repository), ignore)


async def test_what_git_does_not_track_nix_does_not_see(
    kind: FlakeKind, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(repository, package('make "x" "ls ${./.} > $out"'))
    git(repository, "init", "-q")
    with pytest.raises(WrongInput) as caught:
        await kind.lock(Request(repository), ignore)
    assert caught.value.problem.code == "flake-not-tracked"
    assert "git add" in caught.value.problem.hint
    (repository / 'data "ü".csv').write_bytes(b"x" * 5000)
    git(repository, "add", "flake.nix")
    monkeypatch.setattr(flake_source, "SIZE_LIMIT", 4000)
    await kind.lock(Request(repository), ignore)
    git(repository, "add", ".")
    with pytest.raises(WrongInput) as caught:
        await kind.lock(Request(repository), ignore)
    assert caught.value.problem.code == "flake-too-large"


async def test_a_build_that_fails_names_the_derivation_and_shows_the_end(
    kind: FlakeKind, repository: Path, store: Generations, tmp_path: Path
) -> None:
    write(repository, package('program "tool-1" "echo hi"'))
    good = await store.build(await kind.lock(Request(repository), ignore), ignore)
    write(
        repository, package('make "outer-2" "echo ${make "inner-1" "echo compiling; echo no such header >&2; exit 3"}"')
    )
    lock = await kind.lock(Request(repository), ignore)
    with pytest.raises(StudioloError) as caught:
        await store.build(lock, ignore)
    problem = caught.value.problem
    assert problem.code == "package-build-failed"
    assert problem.message.startswith("inner-1 cannot be built")
    assert problem.message.endswith("compiling\nno such header")
    assert "inner-1> no such header" in (tmp_path / "generations" / f".failed-{lock.id}.log").read_text()
    assert [each.id for each in store.all()] == [good.id]
    assert enter(kind.activate(good.lock, good.folder), "tool", tmp_path) == "hi\n"


async def test_a_disk_that_fills_up_while_building(
    kind: FlakeKind, repository: Path, store: Generations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    write(repository, package('make "large" "head -c 5000000 /dev/zero > $TMPDIR/large"'))
    try:
        lock = await kind.lock(Request(repository), ignore)
        monkeypatch.setenv("TMPDIR", str(disk))
        with pytest.raises(StudioloError) as caught:
            await store.build(lock, ignore)
        assert caught.value.problem.code == "disk-full"
        assert store.all() == ()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


async def wait_for(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


def slow(mark: Path) -> str:
    """Says its process id in `mark`, and goes on when `mark.go` is there."""
    wait = f"while [ ! -e {mark}.go ]; do sleep 0.1; done"
    return package(f'make "slow" "echo $$ >> {mark}; {wait}; mkdir $out; echo built > $out/it"')


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


async def test_cancelling_ends_the_build_and_leaves_nothing(
    kind: FlakeKind, repository: Path, store: Generations, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    write(repository, slow(mark))
    lock = await kind.lock(Request(repository), ignore)
    task = asyncio.create_task(store.build(lock, ignore))
    await wait_for(lambda: mark.exists() and mark.read_text().endswith("\n"))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    builder = int(mark.read_text())
    await wait_for(lambda: not alive(builder))
    assert store.find(lock.id) is None
    assert not (tmp_path / "generations" / lock.id).exists()


CHILD = """
    import asyncio
    from pathlib import Path
    from studiolo.environments.flake import FlakeKind
    from studiolo.environments.generations import Generations
    from studiolo.environments.kind import Request

    async def main():
        kind = FlakeKind(Path({cache!r}))
        lock = await kind.lock(Request(Path({repository!r})), lambda _: None)
        store = Generations(Path({folder!r}), Path({cache!r}), {{"flake": kind}}, reserve=0)
        await store.build(lock, lambda _: None)

    asyncio.run(main())
"""


async def test_what_a_killed_build_left_the_next_one_repairs(
    kind: FlakeKind, repository: Path, store: Generations, tmp_path: Path, cache: Path
) -> None:
    mark = tmp_path / "mark"
    write(repository, slow(mark))
    program = textwrap.dedent(CHILD).format(
        cache=str(cache), repository=str(repository), folder=str(tmp_path / "generations")
    )
    with subprocess.Popen([sys.executable, "-c", program]) as other:
        await wait_for(lambda: mark.exists() and mark.read_text().endswith("\n"))
        other.send_signal(signal.SIGKILL)
    lock = await kind.lock(Request(repository), ignore)
    assert store.find(lock.id) is None
    assert end_orphans() > 0
    builder = int(mark.read_text())
    await wait_for(lambda: not alive(builder))
    Path(f"{mark}.go").touch()
    generation = await store.build(lock, ignore)
    assert (generation.folder / "profile" / "it").read_text() == "built\n"
    assert len(mark.read_text().split()) == 2


async def test_two_who_build_the_same_build_once(
    kind: FlakeKind, repository: Path, store: Generations, tmp_path: Path, cache: Path
) -> None:
    mark = tmp_path / "mark"
    write(repository, slow(mark))
    lock = await kind.lock(Request(repository), ignore)
    another = Generations(tmp_path / "generations", cache, {"flake": FlakeKind(cache)}, reserve=0)
    heard: list[Progress] = []
    first = asyncio.create_task(store.build(lock, ignore))
    await wait_for(lambda: mark.exists())
    second = asyncio.create_task(another.build(lock, heard.append))
    await wait_for(lambda: bool(heard))
    Path(f"{mark}.go").touch()
    assert (await first).folder == (await second).folder
    assert len(mark.read_text().split()) == 1


def dead() -> str:
    """What Nix's garbage collection would take now. It is not run for real: other tests build at the same time."""
    return subprocess.run(["nix-store", "--gc", "--print-dead"], check=True, capture_output=True, text=True).stdout


async def test_garbage_collection_leaves_a_generation_alone_until_it_is_removed(
    kind: FlakeKind, repository: Path, store: Generations
) -> None:
    write(repository, 'devShells.@system@.default = shell { buildInputs = [ (program "used" "echo hi") ]; };')
    lock = await kind.lock(Request(repository), ignore)
    assert json.loads(lock.text)["derivation"] not in dead(), "what is locked can be built"
    generation = await store.build(lock, ignore)
    (folder,) = kind.activate(lock, generation.folder).path
    roots = subprocess.run(["nix-store", "--gc", "--print-roots"], check=True, capture_output=True, text=True).stdout
    assert f"{generation.folder}/profile-1-link" in roots
    used_path = str(Path(folder).parent)
    assert used_path not in dead()
    shutil.rmtree(generation.folder)
    assert used_path in dead()


async def test_a_rebuild_gives_the_same_tree(kind: FlakeKind, repository: Path, tmp_path: Path) -> None:
    write(
        repository,
        'devShells.@system@.default = shell { buildInputs = [ (program "tool" "echo hi") ]; DATA = "/srv"; };',
    )
    lock = await kind.lock(Request(repository), ignore)
    trees = []
    for name, make in (("built", kind.build), ("rebuilt", kind.rebuild)):
        folder = tmp_path / name
        folder.mkdir()
        await make(lock, folder, ignore)
        trees.append(
            {
                path.name: str(path.readlink()) if path.is_symlink() else path.read_text()
                for path in folder.iterdir()
                if path.name not in kind.unlike
            }
        )
    assert trees[0] == trees[1]
    assert {"profile", "profile-1-link", "derivation", "environment.json"} == set(trees[0])
    assert "checking outputs" in (tmp_path / "rebuilt" / "build.log").read_text()
    assert not list(Path("/nix/store").glob("*shell-env.check"))


async def test_a_package_that_never_comes_out_the_same(kind: FlakeKind, repository: Path, tmp_path: Path) -> None:
    write(repository, package('make "clock" "date +%N%s > $out"'))
    lock = await kind.lock(Request(repository), ignore)
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(StudioloError) as caught:
        await kind.rebuild(lock, target, ignore)
    assert caught.value.problem.code == "not-reproducible"
    assert "clock" in caught.value.problem.message


async def test_without_nix_or_its_daemon_it_says_what_helps(
    kind: FlakeKind, repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(repository, package('make "x" "true"'))
    if not Path("/nix/var/nix/daemon-socket/socket").exists():
        monkeypatch.setenv("NIX_REMOTE", "daemon")
        with pytest.raises(StudioloError) as caught:
            await kind.lock(Request(repository), ignore)
        assert caught.value.problem.code == "nix-store-denied"
        assert "nix-daemon" in caught.value.problem.hint
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(flake_program, "_PLACES", ())
    with pytest.raises(StudioloError) as caught:
        await kind.lock(Request(repository), ignore)
    assert (caught.value.problem.code, "nix-bin" in caught.value.problem.hint) == ("nix-missing", True)


async def test_a_derivation_that_is_gone_is_locked_again(kind: FlakeKind, tmp_path: Path) -> None:
    text = json.dumps({"attribute": "packages.x.default", "derivation": f"{'0' * 32}-gone-1.drv", "output": "x"})
    with pytest.raises(StudioloError) as caught:
        await kind.build(Lock("flake", text), tmp_path, ignore)
    assert caught.value.problem.code == "derivation-missing"
    assert "gone-1" in caught.value.problem.message


NIXPKGS = """{
  outputs = { self }: {
    lib.genAttrs = names: make: builtins.listToAttrs (map (name: { inherit name; value = make name; }) names);
    legacyPackages.@system@ =
      let
        make = name: derivation {
          inherit name; system = "@system@"; builder = "/bin/bash";
          args = [ "-c" "PATH=/usr/bin:/bin; mkdir $out; echo outputs=out > $out/setup; exit 0" ];
        } // { meta.license.spdxId = "MIT"; };
      in {
        cmake = make "cmake-1"; ninja = make "ninja-1"; gcc = make "gcc-1"; gdb = make "gdb-1";
        python3.withPackages = choose: make "python3-3.13.1-env" // {
          paths = [ (make "python3-3.13.1") ] ++ choose {
            ipykernel = make "python3.13-ipykernel-7"; numpy = make "python3.13-numpy-2";
            pandas = make "python3.13-pandas-3"; matplotlib = make "python3.13-matplotlib-4";
          };
        };
        mkShell = { packages }: derivation {
          name = "shell"; system = "@system@"; builder = "/bin/bash";
          stdenv = make "stdenv"; nativeBuildInputs = packages;
        } // { nativeBuildInputs = packages; };
      };
  };
}
"""


@pytest.mark.parametrize(
    ("which", "python", "names"),
    [
        ("python", "3.13.1", ["ipykernel", "matplotlib", "numpy", "pandas", "python3"]),
        ("cpp", "", ["cmake", "gcc", "gdb", "ninja"]),
    ],
)
async def test_the_template_is_an_environment(
    kind: FlakeKind, repository: Path, store: Generations, which: TemplateKind, python: str, names: list[str]
) -> None:
    """Against a stand-in that has what the template asks nixpkgs for, by the names it has there."""
    for name, text in template(which, "penguins").items():
        (repository / name).write_text(text.replace("github:NixOS/nixpkgs/nixos-unstable", "path:./nixpkgs"))
    (repository / "nixpkgs").mkdir()
    (repository / "nixpkgs" / "flake.nix").write_text(NIXPKGS.replace("@system@", SYSTEM))
    lock = await kind.lock(Request(repository), ignore)
    assert lock.facts["source"] == ".envrc"
    assert lock.interpreter == python
    assert [each.name for each in kind.describe(lock)] == names
    assert {each.licence for each in kind.describe(lock)} == {"MIT"}
    await store.build(lock, ignore)


async def test_the_example(kind: FlakeKind, tmp_path: Path, store: Generations) -> None:
    example = tmp_path / "flake-hello"
    shutil.copytree(ROOT / "examples" / "flake-hello", example)
    lock = await kind.lock(Request(example), ignore)
    activation = kind.activate(lock, (await store.build(lock, ignore)).folder)
    assert enter(activation, "tally sightings.csv 1", example).split() == [
        "3", "Adelie", "1", "Gentoo", "1", "Chinstrap",
    ]  # fmt: skip
