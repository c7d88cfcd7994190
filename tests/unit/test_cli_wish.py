"""What `run` asks for: which repository, which document, which name, with every path absolute."""

from __future__ import annotations

from pathlib import Path

import pytest

from studiolo.cli.run import Wish, read_wish
from studiolo.problem import WrongInput


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `repo` beside the current one, `here`."""
    (tmp_path / "here").mkdir()
    (tmp_path / "repo").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def wish(source: str | None = None, file: str | None = None, *pairs: str, name: str | None = None) -> Wish:
    return read_wish(source, Path(file) if file else None, list(pairs), name=name, project="default")


def test_without_anything_it_is_this_folder(folder: Path) -> None:
    found = wish()
    assert (found.repository, found.name, found.document) == (str(folder / "here"), "here", {})


def test_a_folder_brings_its_document(folder: Path) -> None:
    (folder / "repo/studiolo.yaml").write_text("name: named\n")
    found = wish("../repo")
    assert (found.repository, found.name) == (str(folder / "repo"), "named")
    assert wish("../repo", name="given").name == "given"


def test_a_documents_paths_are_meant_from_where_it_lies(folder: Path) -> None:
    (folder / "repo/w.yaml").write_text(
        "params: {where: {default: raw}}\n"
        "repository: ./code\n"
        "data:\n  - {name: one, folder: '${params.where}'}\n  - {name: two, folder: /abs}\n  - three\n"
    )
    found = wish(None, "../repo/w.yaml")
    assert found.repository == str(folder / "repo/code")
    assert found.name == "code"
    assert [each if isinstance(each, str) else each["folder"] for each in found.document["data"]] == [
        str(folder / "repo/raw"),
        "/abs",
        "three",
    ]


def test_a_document_without_a_repository_is_beside_it(folder: Path) -> None:
    (folder / "repo/w.yaml").write_text("apps: [jupyterlab]\n")
    assert wish(None, "../repo/w.yaml").repository == str(folder / "repo")
    assert wish(".", "../repo/w.yaml").repository == str(folder / "here")


def test_a_named_folder_counts_more_than_another_documents(folder: Path) -> None:
    (folder / "repo/w.yaml").write_text("repository: https://example.org/team/notes.git\n")
    assert wish(None, "../repo/w.yaml").repository == "https://example.org/team/notes.git"
    assert wish(None, "../repo/w.yaml").name == "notes"
    assert wish(".", "../repo/w.yaml").repository == str(folder / "here")


@pytest.mark.usefixtures("folder")
def test_a_url_is_left_as_it_is() -> None:
    found = wish("https://example.org/ada/My.Notes.git")
    assert (found.repository, found.name) == ("https://example.org/ada/My.Notes.git", "my-notes")


def test_parameters_are_checked_with_the_document(folder: Path) -> None:
    (folder / "here/studiolo.yaml").write_text("params: {year: {type: int}}\n")
    assert wish(None, None, "year=2026").params == {"year": "2026"}
    with pytest.raises(WrongInput, match="year"):
        wish(None, None, "year=never")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("source", "file", "pairs", "code"),
    [
        ("nowhere", None, [], "no-folder"),
        ("git@example.org:a/b.git", None, [], "wrong-repository"),
        ("ext::sh -c x", None, [], "wrong-repository"),
        ("https://u:secret@example.org/a", None, [], "wrong-repository"),
        (None, "nowhere.yaml", [], "no-file"),
        (None, "/", [], "no-file"),
        (None, "/dev/zero", [], None),
        (None, None, ["year"], "wrong-param"),
        (None, None, ["year=1"], "no-document"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    source: str | None, file: str | None, pairs: list[str], code: str | None
) -> None:
    with pytest.raises(WrongInput) as raised:
        wish(source, file, *pairs)
    assert code is None or raised.value.problem.code == code
    assert "secret" not in str(raised.value)


def devcontainer(folder: Path, text: str) -> None:
    (folder / ".devcontainer").mkdir(exist_ok=True)
    (folder / ".devcontainer/devcontainer.json").write_text(text)


def test_without_a_document_a_devcontainer_says_what_it_can(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    devcontainer(
        folder / "repo",
        """{
          "name": "Python 3", "image": "python:3.12", // both are not for workspaces of this machine
          "customizations": {"vscode": {"extensions": ["charliermarsh.ruff"]}},
          "forwardPorts": [5000], "containerEnv": {"YEAR": "2026"}, "postCreateCommand": "make data",
          "hostRequirements": {"cpus": 2}, "runArgs": ["--init"],
        }""",
    )
    found = wish("../repo")
    assert found.name == "repo"
    assert found.document == {
        "apps": [
            "jupyterlab",
            {"name": "vscode", "kind": "vscode", "extensions": ["charliermarsh.ruff"]},
            {"name": "port-5000", "kind": "port", "port": 5000},
        ],
        "compute": {"cpu": 2},
        "env": {"YEAR": "2026"},
        "setup": ["make data"],
    }
    assert capsys.readouterr().err.splitlines() == [
        (
            "taken from .devcontainer/devcontainer.json: extensions charliermarsh.ruff; ports 5000 as port-5000; "
            "variables YEAR; compute cpu 2; commands make data"
        ),
        "not taken from .devcontainer/devcontainer.json: its image; the environment is detected from the repository",
        (
            "not taken: ../repo/.devcontainer/devcontainer.json:5:44: runArgs: options of a container's start are not "
            "handed on"
        ),
    ]


@pytest.mark.parametrize("file", ["studiolo.yaml", "w.yaml"])
def test_with_a_document_a_devcontainer_says_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    devcontainer(folder / "here", '{"forwardPorts": [5000]}')
    (folder / "here" / file).write_text("name: own\n")
    found = wish(".") if file == "studiolo.yaml" else wish(None, file)
    assert (found.name, found.document) == ("own", {"name": "own"})
    assert capsys.readouterr().err == ""


def test_a_broken_devcontainer_keeps_nobody_from_work(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    devcontainer(folder / "here", '{"forwardPorts": [5000')
    assert wish().document == {}
    assert ".devcontainer/devcontainer.json:1:23: not JSON" in capsys.readouterr().err
