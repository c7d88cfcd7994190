"""Which file a folder's environment is taken from, and how a program's failure reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from studiolo.environments import uv_sources
from studiolo.environments.interpreter import Wish
from studiolo.environments.kinds import DEFAULT_REASON, detect
from studiolo.environments.uv_failure import explain
from studiolo.problem import Problem, WrongInput
from studiolo.process import Completed, ProgramFailed

PROJECT = "[project]\nname = 'a'\nversion = '1'\n"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"uv.lock": "", "pyproject.toml": PROJECT, "requirements.txt": ""}, "uv.lock"),
        ({"uv.lock": "", "requirements.txt": ""}, "requirements.txt"),
        ({"requirements.lock": "", "pyproject.toml": PROJECT + "dependencies = []\n"}, "requirements.lock"),
        ({"pyproject.toml": PROJECT + "dependencies = []\n", "requirements.txt": ""}, "pyproject.toml"),
        ({"pyproject.toml": PROJECT, "requirements.txt": ""}, "requirements.txt"),
        ({"pyproject.toml": "[tool.black]\n", "requirements.txt": ""}, "requirements.txt"),
        ({"pyproject.toml": PROJECT}, None),
        ({"README.md": ""}, None),
    ],
)
def test_the_first_file_that_says_so_counts(tmp_path: Path, files: dict[str, str], found: str | None) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert uv_sources.find(tmp_path) == found
    assert detect(tmp_path).reason == (f"{found} found" if found else DEFAULT_REASON)


def test_detection_never_fails(tmp_path: Path) -> None:
    assert detect(None).reason == DEFAULT_REASON
    assert detect(tmp_path / "nowhere").reason == DEFAULT_REASON
    (tmp_path / "pyproject.toml").write_bytes(b"\xff\xfe[[[")
    assert detect(tmp_path).reason == "pyproject.toml found"
    with pytest.raises(WrongInput) as caught:
        uv_sources.read(uv_sources.Place(tmp_path, tmp_path, "pyproject.toml"))
    assert caught.value.problem.where == "pyproject.toml"


def test_a_project_asks_with_its_development_group(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        PROJECT + "dependencies = ['six']\n[dependency-groups]\n"
        "dev = ['tomli', {include-group = 'test'}]\ntest = ['iniconfig', {include-group = 'dev'}]\n"
    )
    declared = uv_sources.read(uv_sources.Place(tmp_path, tmp_path, "pyproject.toml"))
    assert [(each.name, each.where) for each in declared.wanted] == [
        ("six", "pyproject.toml: project.dependencies[0]"),
        ("tomli", "pyproject.toml: dependency-groups.dev[0]"),
        ("iniconfig", "pyproject.toml: dependency-groups.test[0]"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        PROJECT + "dependencies = 'six'\n",
        PROJECT + "dependencies = [1]\n",
        PROJECT + "dependencies = ['a']\n[tool.uv.sources]\na = {git = 'https://example.test/a'}\n",
        PROJECT + "dependencies = ['six; python_version ~ 3']\n",
    ],
)
def test_a_project_that_cannot_be_locked_says_where(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(WrongInput) as caught:
        uv_sources.read(uv_sources.Place(tmp_path, tmp_path, "pyproject.toml"))
    assert caught.value.problem.where.startswith("pyproject.toml: project.dependencies")


def test_python_is_what_the_repository_says(tmp_path: Path) -> None:
    place = uv_sources.Place(tmp_path, tmp_path, "requirements.txt")
    place.path.touch()
    assert uv_sources.read(place).python is None
    (tmp_path / "pyproject.toml").write_text(PROJECT + "requires-python = '>=3.11,<3.14'\n")
    assert uv_sources.read(place).python == Wish(">=3.11,<3.14", "pyproject.toml: project.requires-python")
    (tmp_path / ".python-version").write_text("# team's choice\nmy-virtualenv\n3.12\n")
    assert uv_sources.read(place).python == Wish("3.12", ".python-version")


def test_versions_and_ranges() -> None:
    assert Wish("3.12", "").range.contains("3.12.7")
    assert not Wish("3.1", "").range.contains("3.12.7")
    assert Wish("3.11.2", "").range.contains("3.11.2")
    with pytest.raises(WrongInput):
        _ = Wish("the newest", "environment.python").range


def failure(output: str) -> ProgramFailed:
    return ProgramFailed(Problem("program-failed", "uv failed"), Completed(("uv",), 1, output))


@pytest.mark.parametrize(
    ("output", "code"),
    [
        (
            "error: No solution found\n  cause: Because x was not found in the package registry and y",
            "package-not-found",
        ),
        ("error: No solution found\n  cause: Because a==1 depends on b==2", "packages-conflict"),
        ("error: Request failed after 3 retries\n  cause: Failed to fetch: x\n  cause: dns error", "index-unreachable"),
        ("error: Failed to write\n  cause: No space left on device (os error 28)", "disk-full"),
        ("error: Failed to build `thing==1`\n  cause: gcc", "package-build-failed"),
        ("error: something new", "environment-failed"),
    ],
)
def test_failures_of_uv_have_names(output: str, code: str) -> None:
    assert explain(failure(output), {}).problem.code == code
    assert len(explain(failure(output + " word" * 5000), {}).problem.message) < 1100
