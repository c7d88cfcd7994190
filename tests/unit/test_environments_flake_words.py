"""What a folder declares as a flake, what a workspace takes over of a shell, and what Nix's words mean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studiolo.environments import flake_contents, flake_shell, flake_source
from studiolo.environments.build_log import BuildLog
from studiolo.environments.flake_program import explain
from studiolo.environments.flake_progress import BuildProgress, store_name
from studiolo.environments.flake_template import TemplateKind, template
from studiolo.environments.kind import Progress, Request
from studiolo.environments.kinds import detect
from studiolo.problem import Problem, StudioloError, WrongInput
from studiolo.process import Completed, ProgramFailed

HASH = "0123456789abcdfghijklmnpqrsvwxyz"


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / {"envrc": ".envrc", "flake": "flake.nix"}.get(name, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("envrc", "inside", "attribute"),
    [
        ("use flake\n", "", ""),
        ("# first\nuse flake . # all of it\n", "", ""),
        ("use flake .#analysis\n", "", "analysis"),
        ("use flake ./sub\n", "sub", ""),
        ("use flake path:./sub#gpu --show-trace\n", "sub", "gpu"),
        ("if has nix; then use flake './sub'; fi\n", "sub", ""),
        ("dotenv\n  use_flake\n", "", ""),
        ("use flake --no-warn-dirty\n", "", ""),
    ],
)
def test_use_flake_is_read_as_direnv_reads_it(tmp_path: Path, envrc: str, inside: str, attribute: str) -> None:
    write(tmp_path, envrc=envrc, flake="{ }", **{"sub/flake.nix": "{ }"})
    found = flake_source.locate(Request(tmp_path))
    assert (found.inside, found.attribute, found.file) == (inside, attribute, ".envrc")
    assert detect(tmp_path).file == ".envrc"
    assert "use flake" in detect(tmp_path).reason


@pytest.mark.parametrize(
    "envrc", ["layout python\n", "# use flake\n", "use flakes\n", "use flake-utils\n", "use nix\n"]
)
def test_other_words_of_direnv_are_no_flake(tmp_path: Path, envrc: str) -> None:
    write(tmp_path, envrc=envrc)
    assert flake_source.declared_by(tmp_path) is None
    write(tmp_path, flake="{ }")
    assert flake_source.declared_by(tmp_path) == "flake.nix"
    assert flake_source.locate(Request(tmp_path)).file == "flake.nix"


def test_a_flake_ranks_behind_a_uv_lock_unless_direnv_enters_it(tmp_path: Path) -> None:
    write(tmp_path, flake="{ }", **{"uv.lock": "", "pyproject.toml": "[project]\nname = 'a'\nversion = '1'\n"})
    assert detect(tmp_path).file == "uv.lock"
    write(tmp_path, envrc="use flake\n")
    assert detect(tmp_path).kind == "flake"


def test_which_flake_can_be_chosen(tmp_path: Path) -> None:
    write(tmp_path, envrc="use flake .#gpu\n", flake="{ }", **{"sub/flake.nix": "{ }", "sub/.envrc": "use flake ..\n"})
    assert flake_source.locate(Request(tmp_path, file="flake.nix")).attribute == ""
    assert flake_source.locate(Request(tmp_path, file=".envrc")).attribute == "gpu"
    assert flake_source.locate(Request(tmp_path, file="sub/flake.nix")).inside == "sub"
    assert flake_source.locate(Request(tmp_path, project="sub", file="flake.nix")).inside == "sub"
    assert flake_source.locate(Request(tmp_path, project="sub", file="sub/flake.nix")).inside == "sub"
    up = flake_source.locate(Request(tmp_path, project="sub"))
    assert (up.inside, up.file, up.where) == ("", "sub/.envrc", "sub/.envrc:1")


@pytest.mark.parametrize(
    ("project", "file", "code", "where"),
    [
        ("nowhere", None, "project-missing", "environment.project"),
        ("..", None, "project-missing", "environment.project"),
        (None, "other.nix", "flake-missing", "environment.file"),
        (None, "nowhere/flake.nix", "flake-missing", "environment.file"),
        ("far", None, "flake-elsewhere", "far/.envrc:2"),
        ("impure", None, "flake-option", "impure/.envrc:1"),
        ("out", None, "file-outside-repository", "out/.envrc:1"),
        ("empty", None, "flake-missing", "empty/flake.nix"),
    ],
)
def test_what_cannot_be_followed_is_said(
    tmp_path: Path, project: str | None, file: str | None, code: str, where: str
) -> None:
    root = tmp_path / "repository"
    files = {
        "far/.envrc": "# ours\nuse flake github:someone/something#shell\n",
        "impure/.envrc": "use flake . --impure\n",
        "out/.envrc": "use flake ../..\n",
        "empty/README.md": "",
    }
    write(root, flake="{ }", **files)
    write(tmp_path, flake="{ }")
    (root / "other.nix").touch()
    with pytest.raises(WrongInput) as caught:
        flake_source.locate(Request(root, project=project, file=file))
    assert (caught.value.problem.code, caught.value.problem.where) == (code, where)


def test_digests_follow_what_a_flake_reads(tmp_path: Path) -> None:
    write(tmp_path, flake="{ }", **{"nix/a.nix": "1", "data.csv": "1", ".direnv/b.nix": "1"})
    (tmp_path / "away.nix").symlink_to("/etc/hostname")
    found = flake_source.digests(flake_source.locate(Request(tmp_path)))
    assert set(found) == {"flake.nix", "nix/a.nix"}
    write(tmp_path, **{"nix/a.nix": "2", "flake.lock": "{}"})
    changed = flake_source.digests(flake_source.locate(Request(tmp_path)))
    assert {name for name in changed if changed[name] != found.get(name)} == {"nix/a.nix", "flake.lock"}


def exported(**values: str) -> dict[str, object]:
    return {name: {"type": "exported", "value": value} for name, value in values.items()}


def test_a_workspace_takes_a_shells_own_variables_and_none_of_the_builders() -> None:
    variables = {
        **exported(
            PATH=f"/nix/store/{HASH}-b/bin:/nix/store/{HASH}-a/bin:/usr/bin::/nix/store/{HASH}-b/bin:/path-not-set",
            DATA="/srv/data",
            CC="gcc",
            HOME="/homeless-shelter",
            TMPDIR="/build",
            SOURCE_DATE_EPOCH="315532800",
            buildInputs="x",
            cmakeFlags="-G",
            NIX_BUILD_TOP="/build",
            CACHE="/build/cache",
            NIX_CFLAGS_COMPILE="-isystem /nix/store",
            XDG_DATA_DIRS="/nix/store/x/share",
        ),
        "IFS": {"type": "var", "value": " "},
        "list": {"type": "array", "value": ["a"]},
        "shellHook": {"type": "exported", "value": "\n  echo hello\n"},
    }
    shell = flake_shell.read({"variables": variables, "bashFunctions": {}})
    assert shell.path == (f"/nix/store/{HASH}-b/bin", f"/nix/store/{HASH}-a/bin")
    assert shell.variables == {
        "CC": "gcc",
        "DATA": "/srv/data",
        "NIX_CFLAGS_COMPILE": "-isystem /nix/store",
        "XDG_DATA_DIRS": "/nix/store/x/share:/usr/local/share:/usr/share",
    }
    assert shell.hook


def test_progress_is_counted_and_the_log_says_whose_line_it_is(tmp_path: Path) -> None:
    heard: list[Progress] = []
    progress = BuildProgress(BuildLog(tmp_path), heard.append)
    drv = f"/nix/store/{HASH}-hello-1.2.drv"
    events = [
        {"action": "start", "id": 1, "type": 104, "text": "", "level": 0},
        {"action": "result", "id": 1, "type": 105, "fields": [0, 2, 0, 0]},
        {"action": "start", "id": 2, "type": 105, "text": f"building '{drv}'", "fields": [drv, "", 1, 1], "level": 3},
        {"action": "result", "id": 2, "type": 101, "fields": ["\x1b[31mcompiling\x1b[0m"]},
        {"action": "result", "id": 1, "type": 105, "fields": [1, 2, 0, 0]},
        {"action": "msg", "level": 0, "msg": "\x1b[31;1merror:\x1b[0m oh no"},
        {"action": "msg", "level": 4, "msg": "chatter"},
        {"action": "start", "id": 9},
    ]
    for event in events:
        progress.hear(f"@nix {json.dumps(event)}")
    progress.hear("export PATH")
    assert heard[-1] == Progress("building hello-1.2", 1, 2)
    assert progress.said == "error: oh no"
    assert progress.tail("hello-1.2") == "compiling"
    log = (tmp_path / "build.log").read_text()
    assert "hello-1.2> compiling\n" in log
    assert "chatter" not in log
    assert "export PATH" not in log


def failed(output: str, source: Path | None = None) -> StudioloError:
    return explain(ProgramFailed(Problem("program-failed", "nix failed"), Completed(("nix",), 1, output)), source)


def test_where_an_error_is_comes_from_the_repository_not_from_an_input(tmp_path: Path) -> None:
    (tmp_path / "flake.nix").touch()
    error = failed(
        f"warning: x\nerror: while calling\n\n at /nix/store/{HASH}-source/lib/other.nix:1:2:\n\n"
        f"error: undefined variable 'pandsa'\n\n       at /nix/store/{HASH}-source/flake.nix:7:13:\n\n"
        "            6|  let\n            7|    pandsa\n             |    ^\n(use '--show-trace' to)\n",
        tmp_path,
    )
    assert isinstance(error, WrongInput)
    assert error.problem.where == "flake.nix:7:13"
    assert error.problem.message == "undefined variable 'pandsa'"


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ("error: writing to file: No space left on device", "disk-full"),
        ("error: creating directory '/nix/store': Permission denied", "nix-store-denied"),
        ("error: unable to download 'https://x': HTTP error 404 ('Not Found')", "flake-input-missing"),
        ("error: unable to download 'https://x': Couldn't connect to server (7)", "flake-input-unreachable"),
        (f"error: builder for '/nix/store/{HASH}-bad-1.drv' failed with exit code 3", "package-build-failed"),
        (f"error: a 'aarch64-linux' is required to build '/nix/store/{HASH}-x.drv', but I am", "package-build-failed"),
        (f"error: derivation '/nix/store/{HASH}-x.drv' may not be deterministic: output", "not-reproducible"),
        ("error: my own words", "flake-evaluation"),
    ],
)
def test_what_nix_says_is_told_apart(output: str, code: str) -> None:
    error = failed(output)
    assert error.problem.code == code
    assert HASH not in error.problem.message


def test_names_in_the_store() -> None:
    assert store_name(f"/nix/store/{HASH}-hello-1.2.drv") == "hello-1.2"
    (package,) = flake_contents.packages([{"name": "gtk+", "version": "3", "licence": "MIT"}])
    assert package.purl == "pkg:nix/gtk%2B@3"


@pytest.mark.parametrize("kind", ["python", "cpp"])
def test_a_name_cannot_leave_its_string_in_the_template(kind: TemplateKind) -> None:
    files = template(kind, 'a"; evil = ${x}\n\\')
    assert files[".envrc"] == "use flake\n"
    assert '  description = "a\\"; evil = \\${x} \\\\: ' in files["flake.nix"]
