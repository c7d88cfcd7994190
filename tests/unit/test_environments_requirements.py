"""What a requirements file may say, and what it may not: a repository may come from anybody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studiolo.environments.kind import Index
from studiolo.environments.requirement import Wanted
from studiolo.environments.requirements_file import RequirementsFile
from studiolo.problem import Problem, WrongInput

HASH = "sha256:" + "a" * 64


def read(folder: Path, text: str) -> RequirementsFile:
    path = folder / "requirements.txt"
    path.write_text(text)
    return RequirementsFile.read(folder, path)


def problems(folder: Path, text: str) -> list[Problem]:
    with pytest.raises(WrongInput) as caught:
        read(folder, text)
    return list(caught.value.problems)


def test_comments_continuations_and_includes_are_followed(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/base.txt").write_text("numpy>=1  # arrays\n-c ../limits.txt\n")
    (tmp_path / "limits.txt").write_text("scipy<2\n")
    file = read(tmp_path, "# first\n-r more/base.txt\nPandas \\\n  >=2\n--pre\n\n")
    assert [(each.name, each.where) for each in file.wanted] == [
        ("numpy", "more/base.txt:1:1"),
        ("pandas", "requirements.txt:3:1"),
    ]
    assert [each.text for each in file.constraints] == ["scipy<2"]
    assert not file.locked


def test_a_file_that_includes_itself_ends(tmp_path: Path) -> None:
    assert [each.name for each in read(tmp_path, "-r requirements.txt\nsix\n").wanted] == ["six"]


def test_the_repositorys_own_package_is_not_a_requirement(tmp_path: Path) -> None:
    for line in ("-e .", "-e file:.", "-e .[dev]", "."):
        file = read(tmp_path, f"{line}\nsix\n")
        assert file.itself
        assert [each.name for each in file.wanted] == ["six"]


def test_pinned_and_hashed_throughout_is_a_lock(tmp_path: Path) -> None:
    assert read(tmp_path, f"six==1.17.0 --hash={HASH}\n").locked
    assert not read(tmp_path, f"six==1.17.0 --hash={HASH}\ntomli\n").locked
    assert not read(tmp_path, f"six>=1.17.0 --hash={HASH}\n").locked


def test_what_powershell_writes_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_bytes("six==1.17.0\r\n".encode("utf-16"))
    assert [each.text for each in RequirementsFile.read(tmp_path, path).wanted] == ["six==1.17.0"]


@pytest.mark.parametrize("line", ["-r /etc/passwd", "-r ../../etc/passwd", "-c /etc/hostname", "-r link.txt"])
def test_nothing_outside_the_repository_is_read(tmp_path: Path, line: str) -> None:
    (tmp_path / "link.txt").symlink_to("/etc/passwd")
    (problem,) = problems(tmp_path, line)
    assert problem.code == "file-outside-repository"
    assert problem.where == "requirements.txt:1:1"
    assert "root:" not in str(problem)


def test_a_requirements_file_that_is_a_link_out_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").symlink_to("/etc/passwd")
    with pytest.raises(WrongInput, match="outside the repository"):
        RequirementsFile.read(tmp_path, tmp_path / "requirements.txt")


def test_a_named_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (problem,) = problems(tmp_path, "-r pipe")
    assert problem.code == "file-unreadable"


def test_indexes_are_taken_from_a_repository_and_pypi_is_the_machines_own(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("--extra-index-url=http://127.0.0.1:8080/simple\n")
    text = "-i https://pypi.test/simple/\n--extra-index-url https://one.test/simple\n-r more.txt\n-i https://two.test/s\nsix\n"
    assert read(tmp_path, text).indexes == (
        Index("https://one.test/simple"),
        Index("http://127.0.0.1:8080/simple"),
        Index("https://two.test/s", default=True),
    )


@pytest.mark.parametrize(
    "line",
    [
        "--index-url http://evil.test/simple",
        "--index-url https://ada:canary@e.test/simple",
        "--extra-index-url https://${HOME}/simple",
        "--extra-index-url file:///srv/wheels",
        "-i ./wheels",
        "-i",
        "-f ./wheels",
        "--find-links=https://e.test",
        "--trusted-host e.test",
        "--no-index",
    ],
)
def test_places_that_vouch_for_nothing_are_refused(tmp_path: Path, line: str) -> None:
    (problem,) = problems(tmp_path, f"six\n{line}\n")
    assert (problem.code, problem.where) == ("index-in-file", "requirements.txt:2:1")
    assert problem.hint
    assert "canary" not in str(problem)


@pytest.mark.parametrize(
    "line",
    [
        "git+https://example.test/a.git",
        "a @ git+ssh://git@example.test/a.git",
        "a @ file:///etc/passwd",
        "file:///tmp/a.whl",
        "./a.whl",
        "../other",
        "-e ../other",
        "-e git+https://example.test/a.git#egg=a",
        "-e git+https://user:secret@example.test/a.git#egg=a",
        "git+https://user:secret@example.test/a.git",
        "a @ http://example.test/a-1-py3-none-any.whl",
        "a @ https://user:secret@example.test/a-1-py3-none-any.whl",
        "a @ https://example.test/${HOME}/a-1-py3-none-any.whl",
    ],
)
def test_what_cannot_be_locked_is_refused_with_the_reason(tmp_path: Path, line: str) -> None:
    (problem,) = problems(tmp_path, line)
    assert problem.code == "requirement-unsupported"
    assert problem.where == "requirements.txt:1:1"
    assert problem.hint
    assert "secret" not in str(problem)


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, "six==\n--nonsense\n!!!\ntomli\n-i x\n")
    assert [problem.where for problem in found] == [f"requirements.txt:{line}:1" for line in (1, 2, 3, 5)]
    assert [problem.code for problem in found[:3]] == ["requirement-syntax"] * 3


@pytest.mark.parametrize("text", ["six\n--index-url https://evil.test", "--index-url=https://evil.test", "-r x"])
def test_packages_smuggle_no_options(text: str) -> None:
    with pytest.raises(WrongInput):
        Wanted.parse(text, "environment.packages[0]")


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("any")
    path = folder / "requirements.txt"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        found = RequirementsFile.read(folder, path).wanted
    except WrongInput:
        found = ()
    assert all("\n" not in each.text and not each.text.startswith("-") for each in found)
