"""`env detect`, `env init` and `env import`, as a person or a script runs them: no Studiolo is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from studiolo.cli.main import app, execute_command
from studiolo.spec.load import load_workspace
from studiolo.spec.writing import as_yaml

DEVCONTAINER = """\
{
  // A comment, and a trailing comma.
  "name": "Tides",
  "image": "python:3.12-slim",
  "forwardPorts": [5000],
  "mounts": ["type=volume,target=/x"],
}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def devcontainer(folder: Path, text: str = DEVCONTAINER) -> Path:
    file = folder / ".devcontainer/devcontainer.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def said(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> tuple[str, str]:
    """Run a command that ends with this status: what it prints, and what it says beside that."""
    assert execute_command(words) == status
    return capsys.readouterr()


# detect ---------------------------------------------------------------------------------------------------------------


def test_detect_tells_what_is_chosen_and_why_the_others_are_not(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("requirements.txt", "environment.yml"):
        (here / name).touch()
    devcontainer(here)
    printed, noted = said(capsys, "env", "detect")
    assert printed.splitlines() == [
        "kind     conda",
        "file     environment.yml",
        "because  environment.yml found",
        "",
        "ALSO FOUND                       KIND   NOT CHOSEN",
        "requirements.txt                 uv     environment.yml comes first",
        (
            ".devcontainer/devcontainer.json  image  it needs a backend that runs containers; "
            "workspaces of this machine are processes"
        ),
    ]
    assert noted == ""
    found = json.loads(said(capsys, "env", "detect", str(here), "--json")[0])
    assert (found["kind"], found["file"], found["runnable"]) == ("conda", "environment.yml", True)
    assert [each["file"] for each in found["passed"]] == ["requirements.txt", ".devcontainer/devcontainer.json"]


@pytest.mark.parametrize(
    ("document", "kind", "reason", "why"),
    [
        ("environment: {kind: uv}", "uv", "environment.kind says so", "studiolo.yaml decides"),
        ("environment: {file: flake.nix}", "flake", "environment.file names flake.nix", "studiolo.yaml decides"),
        ("environment: {packages: [six]}", "uv", "requirements.txt found", "a flake says by itself which"),
        ("environment: data-science", None, "the stored environment data-science", "studiolo.yaml decides"),
        ("params: {f: {}}\nenvironment: {file: '${params.f}'}", "flake", "names flake.nix", "studiolo.yaml decides"),
        ("environment: {image: 'python:3.12'}", "image", "environment.image names one", "studiolo.yaml decides"),
    ],
)
def test_what_studiolo_yaml_says_comes_first(
    here: Path, capsys: pytest.CaptureFixture[str], document: str, kind: str | None, reason: str, why: str
) -> None:
    (here / "studiolo.yaml").write_text(document)
    (here / "requirements.txt").touch()
    (here / "flake.nix").touch()
    given = ["-P", "f=flake.nix"] if "params" in document else []
    found = json.loads(said(capsys, "env", "detect", "--json", *given)[0])
    assert found["kind"] == kind
    assert reason in found["reason"]
    assert why in " ".join(each["why"] for each in found["passed"])
    assert found["runnable"] == (kind != "image")


def test_detect_says_that_an_image_cannot_be_started_here(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "studiolo.yaml").write_text("environment: {image: 'python:3.12'}")
    assert "only a backend that runs containers" in said(capsys, "env", "detect")[1]


def test_detect_where_there_is_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed, _ = said(capsys, "env", "detect")
    assert "nothing was found" in printed
    assert "ALSO FOUND" not in printed
    _, noted = said(capsys, "env", "detect", "nowhere", status=2)
    assert noted == "studiolo: nowhere does not exist\nhint: name the folder of a repository\n"
    (here / "studiolo.yaml").write_text("environment: {kind: venv}")
    assert "studiolo.yaml:1:15: environment.kind" in said(capsys, "env", "detect", status=2)[1]


# init -----------------------------------------------------------------------------------------------------------------


def test_init_writes_a_flake_and_says_what_comes_next(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / ".git").mkdir()
    printed, noted = said(capsys, "env", "init", "--flake")
    assert printed.splitlines() == [str(here / "flake.nix"), str(here / ".envrc")]
    assert "ipykernel" in (here / "flake.nix").read_text()
    assert (here / ".envrc").read_text() == "use flake\n"
    assert "git add flake.nix .envrc" in noted
    assert json.loads(said(capsys, "env", "detect", "--json")[0])["file"] == ".envrc"


def test_init_overwrites_only_when_told_to(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "env", "init", "--flake")
    python = (here / "flake.nix").read_text()
    assert "is so already" in said(capsys, "env", "init", "--flake")[0]
    _, noted = said(capsys, "env", "init", "--flake", "--cpp", status=2)
    assert "Overwrite flake.nix" in noted
    assert (here / "flake.nix").read_text() == python
    written = json.loads(said(capsys, "env", "init", "--flake", "--cpp", "--yes", "--json")[0])["written"]
    assert written == ["flake.nix"]
    assert "cmake" in (here / "flake.nix").read_text()
    assert sorted(each.name for each in here.iterdir()) == [".envrc", "flake.nix"]


def test_init_does_not_write_through_a_link(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "repo").mkdir()
    (here / "precious").write_text("mine")
    (here / "repo/.envrc").symlink_to(here / "precious")
    said(capsys, "env", "init", "--flake", "repo", status=2)
    said(capsys, "env", "init", "--flake", "repo", "--yes")
    assert (here / "precious").read_text() == "mine"
    assert not (here / "repo/.envrc").is_symlink()


@pytest.mark.usefixtures("here")
def test_init_wants_to_know_what_to_write(capsys: pytest.CaptureFixture[str]) -> None:
    assert "hint: studiolo env init --flake" in said(capsys, "env", "init", status=2)[1]


# import ---------------------------------------------------------------------------------------------------------------


def test_import_prints_a_document_and_lists_what_is_not_honoured(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    devcontainer(here)
    printed, noted = said(capsys, "env", "import")
    document = load_workspace(printed, "studiolo.yaml", {}).data
    assert document == {
        "name": "tides",
        "environment": {"kind": "image", "image": "python:3.12-slim"},
        "apps": ["jupyterlab", "vscode", {"name": "port-5000", "kind": "port", "port": "5000"}],
    }
    left = ".devcontainer/devcontainer.json:6:3: mounts: folders and volumes are not mounted from here; "
    assert f"# - {left}" in printed
    assert noted.startswith(f"not honoured: {left}")
    assert "leave `environment` out" in noted


def test_import_writes_a_file_without_places_of_this_machine(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    devcontainer(here / "repo")
    printed, noted = said(capsys, "env", "import", str(here / "repo"), "-o", "repo/studiolo.yaml")
    assert printed == "repo/studiolo.yaml\n"
    text = (here / "repo/studiolo.yaml").read_text()
    assert f"not honoured: {here}/repo/.devcontainer/devcontainer.json:6:3" in noted
    assert str(here) not in text
    load_workspace(text, "studiolo.yaml", {})
    # the same again is nothing to ask about; something else is
    said(capsys, "env", "import", str(here / "repo"), "-o", "repo/studiolo.yaml")
    (here / "repo/studiolo.yaml").write_text("name: mine\n")
    said(capsys, "env", "import", "repo", "-o", "repo/studiolo.yaml", status=2)
    assert (here / "repo/studiolo.yaml").read_text() == "name: mine\n"


def test_import_as_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    devcontainer(here, '{"build": {"dockerfile": "Dockerfile"}, "features": {"./f": {}}, "init": true}')
    found = json.loads(said(capsys, "env", "import", "--json")[0])
    assert found["build"] == {
        "dockerfile": ".devcontainer/Dockerfile",
        "context": ".devcontainer",
        "args": {},
        "target": "",
    }
    assert [each["folder"] for each in found["features"]] == [".devcontainer/f"]
    assert [each["code"] for each in found["unhonoured"]] == ["not-honoured"]


def test_import_looks_where_devcontainers_lie(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is neither" in said(capsys, "env", "import", status=1)[1]
    (here / ".devcontainer.json").write_text('{"name": "root"}')
    assert "name: root" in said(capsys, "env", "import")[0]
    (here / ".devcontainer.json").unlink()
    for name in ("gpu", "cpu"):
        (here / ".devcontainer" / name).mkdir(parents=True)
        (here / ".devcontainer" / name / "devcontainer.json").write_text(f'{{"name": "{name}"}}')
    assert ".devcontainer/cpu/devcontainer.json, .devcontainer/gpu" in said(capsys, "env", "import", status=2)[1]
    found = json.loads(said(capsys, "env", "import", ".devcontainer/gpu/devcontainer.json", "--json")[0])
    assert (found["file"], found["document"]) == (".devcontainer/gpu/devcontainer.json", {"name": "gpu"})


def test_import_of_what_is_no_json_names_the_place(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    devcontainer(here, '{\n  "name": "x"\n  "image": "y"\n}')
    assert ".devcontainer/devcontainer.json:3:3: not JSON" in said(capsys, "env", "import", status=2)[1]


def test_import_reads_nothing_outside_the_repository(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "elsewhere.json").write_text('{"name": "secret"}')
    (here / "repo/.devcontainer").mkdir(parents=True)
    (here / "repo/.devcontainer/devcontainer.json").symlink_to(here / "elsewhere.json")
    printed, noted = said(capsys, "env", "import", "repo", status=2)
    assert "outside the repository" in noted
    assert "secret" not in printed


def test_odd_values_survive_the_writing() -> None:
    odd = ["yes", "3.10", "~", "null", "", "a: b # c", "- x", "line\nbreak\n", "'\"", " lead", "*a", "💡", "\t", "1e3"]
    document = {"env": {f"V{index}": value for index, value in enumerate(odd)}, "setup": odd[5:]}
    assert load_workspace(as_yaml(document, ["a\nb"]), "s.yaml", {}).data == document
    assert as_yaml({}) == ""


def test_they_are_shown_with_the_other_commands_of_environments() -> None:
    help_text = CliRunner().invoke(app, ["env", "--help"]).output
    assert all(f"  {name} " in help_text for name in ("detect", "init", "import", "ls", "rollback"))
