"""What repositories say of where packages come from, and what of an earlier lock stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from studiolo.environments import package_index, uv_script, uv_sources
from studiolo.environments.kind import Index, Lock, Request, Upgrade
from studiolo.environments.pins import Pin, version_in
from studiolo.environments.python_packages import purl
from studiolo.environments.uv_settings import Origin
from studiolo.environments.uv_sources import Declared, Place
from studiolo.environments.uv_upgrade import Preference, preference
from studiolo.problem import Problem, WrongInput

SCRIPT = (
    "#!/usr/bin/env python\n# /// script\n# requires-python = '>=3.11'\n# dependencies = ['six']\n# ///\nimport six\n"
)
PROJECT = "[project]\nname = 'a'\nversion = '1'\ndependencies = ['six', 'torch']\n"


def read(folder: Path, name: str, text: str) -> Declared:
    (folder / name).write_text(text)
    return uv_sources.read(Place(folder, folder, name))


def problems(folder: Path, name: str, text: str) -> list[Problem]:
    with pytest.raises(WrongInput) as caught:
        read(folder, name, text)
    return list(caught.value.problems)


def test_a_script_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / ".python-version").write_text("3.9\n")
    declared = read(tmp_path, "task.py", SCRIPT)
    assert [(each.name, each.where) for each in declared.wanted] == [("six", "task.py: dependencies[0]")]
    assert declared.python is not None
    assert (declared.python.text, declared.python.where) == (">=3.11", "task.py: requires-python")
    assert declared.files == (tmp_path / "task.py",)


def test_a_script_without_a_word_on_python_takes_the_repositorys(tmp_path: Path) -> None:
    (tmp_path / ".python-version").write_text("3.12\n")
    declared = read(tmp_path, "task.py", "# /// script\n# dependencies = []\n# ///\n")
    assert declared.python is not None
    assert declared.python.text == "3.12"
    assert declared.files == (tmp_path / "task.py", tmp_path / ".python-version")


@pytest.mark.parametrize(
    ("text", "code", "where"),
    [
        ("import six\n", "script-metadata", "task.py"),
        ("# /// script\n# dependencies = []\nimport six\n", "script-metadata", "task.py"),
        (SCRIPT + SCRIPT, "script-metadata", "task.py:8:1"),
        ("x = 1\n# /// script\n# dependencies = [\n# six\n# ]\n# ///\n", "toml-syntax", "task.py:4:3"),
        ("# /// script\n# dependencies = 'six'\n# ///\n", "requirement-syntax", "task.py: dependencies"),
        ("# /// script\n# dependencies = ['./six']\n# ///\n", "requirement-unsupported", "task.py: dependencies[0]"),
        (
            "# /// script\n# dependencies = ['six']\n# [tool.uv.sources]\n# six = { path = '../six' }\n# ///\n",
            "requirement-unsupported",
            "task.py: dependencies[0]",
        ),
    ],
)
def test_what_is_wrong_with_a_script_is_said_with_its_place(tmp_path: Path, text: str, code: str, where: str) -> None:
    (problem,) = problems(tmp_path, "task.py", text)
    assert (problem.code, problem.where) == (code, where)


def test_the_last_closing_line_of_a_run_of_comments_counts(tmp_path: Path) -> None:
    """As the reference implementation of PEP 723 has it."""
    (problem,) = problems(tmp_path, "task.py", "# /// script\n# dependencies = []\n# ///\n#\n# ///\n")
    assert problem.code == "toml-syntax"


def test_one_script_is_found_and_several_are_a_choice(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text("import six\n")
    (tmp_path / "folder.py").mkdir()
    assert uv_script.find(tmp_path) is None
    (tmp_path / "task.py").write_text(SCRIPT)
    assert uv_script.find(tmp_path) == "task.py"
    assert uv_sources.find(tmp_path) == "task.py"
    (tmp_path / "other.py").write_text(SCRIPT)
    assert uv_sources.find(tmp_path) is None
    assert uv_script.find(tmp_path / "nowhere") is None
    chosen = uv_sources.choose(Request(tmp_path, file="other.py"))
    assert chosen is not None
    assert chosen.shown == "other.py"


def test_a_project_names_indexes_and_binds_packages(tmp_path: Path) -> None:
    declared = read(
        tmp_path,
        "pyproject.toml",
        PROJECT + "[[tool.uv.index]]\nurl = 'https://one.test/simple'\n"
        "[[tool.uv.index]]\nname = 'cpu'\nurl = 'https://cpu.test/whl'\nexplicit = true\n"
        "[[tool.uv.index]]\nname = 'unused'\nurl = './wheels'\nexplicit = true\n"
        "[[tool.uv.index]]\nname = 'usual'\nurl = 'https://pypi.test/simple'\ndefault = true\n"
        "[tool.uv]\nconstraint-dependencies = ['numpy<2']\n"
        "[tool.uv.sources]\ntorch = [{ index = 'cpu', marker = \"sys_platform == 'linux'\" }]\n"
        "other = { path = '.' }\n",
    )
    assert declared.indexes == (Index("https://one.test/simple"),)
    assert declared.origins == (Origin("torch", "https://cpu.test/whl", "sys_platform == 'linux'"),)
    assert [each.text for each in declared.constraints] == ["numpy<2"]


@pytest.mark.parametrize(
    ("text", "code", "where"),
    [
        ("[[tool.uv.index]]\nurl = 'http://one.test/s'\n", "index-in-file", "pyproject.toml: tool.uv.index[0]"),
        ("[[tool.uv.index]]\nurl = 'https://a:canary@b.test/s'\n", "index-in-file", "pyproject.toml: tool.uv.index[0]"),
        ("[tool.uv]\nindex-url = './wheels'\n", "index-in-file", "pyproject.toml: tool.uv.index[0]"),
        ("[tool.uv.sources]\nsix = { index = 'no' }\n", "index-in-file", "pyproject.toml: tool.uv.sources.six"),
        (
            "[tool.uv.sources]\nsix = [{ git = 'https://a.test' }]\n",
            "requirement-unsupported",
            "pyproject.toml: project.dependencies[0]",
        ),
        (
            "[tool.uv]\nindex = [{name = 'a', url = 'https://a.test/s'}]\nsources.six = {index = 'a', marker = 'if'}\n",
            "requirement-syntax",
            "pyproject.toml: tool.uv.sources.six",
        ),
    ],
)
def test_places_that_will_not_do_are_refused(tmp_path: Path, text: str, code: str, where: str) -> None:
    (problem,) = problems(tmp_path, "pyproject.toml", PROJECT + text)
    assert (problem.code, problem.where) == (code, where)
    assert "canary" not in str(problem)


@pytest.mark.parametrize("text", ["tool = 3\n", "[tool]\nuv = []\n", "[tool.uv]\nindex = 'x'\nsources = []\n"])
def test_settings_of_other_forms_are_no_settings(tmp_path: Path, text: str) -> None:
    declared = read(
        tmp_path, "pyproject.toml", (text if text.startswith("tool") else "") + PROJECT + text * ("[" in text)
    )
    assert (declared.indexes, declared.origins) == ((), ())


def test_each_address_counts_once_and_a_login_finds_its_index() -> None:
    login = ("ada", "secret")
    merged = package_index.merged(
        (Index("https://one.test/simple", login=login), Index("https://two.test/s", default=True)),
        (Index("https://One.test/simple/"), Index("https://three.test/s", default=True)),
    )
    assert merged == (
        Index("https://one.test/simple", login=login),
        Index("https://two.test/s", default=True),
        Index("https://three.test/s"),
    )
    assert merged[0].login == login
    assert package_index.variables(merged) == {
        "UV_INDEX_STUDIOLO_0_USERNAME": "ada",
        "UV_INDEX_STUDIOLO_0_PASSWORD": "secret",
        "UV_DEFAULT_INDEX": "studiolo-1=https://two.test/s",
    }
    assert "secret" not in repr(merged)
    assert package_index.mask("Basic YWRhOnNlY3JldA== secret", merged) == "Basic *** ***"
    kept = package_index.facts(merged)
    assert [(each.url, each.default) for each in package_index.remembered(kept)] == [
        (each.url, each.default) for each in merged
    ]


@pytest.mark.parametrize("url", ["https://[", "https://a.test:port/", "://", ""])
def test_an_address_that_is_none_still_has_words(url: str) -> None:
    assert isinstance(package_index.host(url), str)
    assert not package_index.is_address(url)


A = "sha256:" + "a" * 64
PREVIOUS = Lock("uv", f"six==1.16.0 --hash={A}\ntorch==2.0 --hash={A}\nown @ https://a.test/own-1.whl --hash={A}\n")


def prefer(upgrade: Upgrade | None, previous: Lock | None = PREVIOUS, **options: object) -> Preference:
    given = {"place": None, "fixed": (), "free": ("six",), "indexes": (), **options}
    return preference(previous, upgrade, **given)  # type: ignore[arg-type]


def test_what_was_locked_stays() -> None:
    kept = (Pin("six", "1.16.0", "", (A,)), Pin("torch", "2.0", "", (A,)))
    assert prefer(None) == Preference(kept)
    assert prefer(Upgrade(("Torch", "six"))) == Preference(kept, ("torch", "six"))
    assert prefer(Upgrade()) == Preference()
    assert prefer(None, None) == Preference()
    assert prefer(None, Lock("conda", PREVIOUS.text)) == Preference()
    assert prefer(None, Lock("uv", "not a lock")) == Preference()


def test_hashes_of_another_index_are_not_kept() -> None:
    kept = prefer(None, indexes=(Index("https://a.test/simple"),)).pins
    assert [(pin.name, pin.version, pin.hashes) for pin in kept] == [("six", "1.16.0", ()), ("torch", "2.0", ())]


@pytest.mark.parametrize(
    ("name", "packages", "command"),
    [
        ("uv.lock", (), "uv lock --upgrade`"),
        ("uv.lock", ("six",), "uv lock --upgrade-package six`"),
        ("requirements.lock", (), "uv pip compile --upgrade`"),
    ],
)
def test_what_the_repository_locks_is_not_moved_here(
    tmp_path: Path, name: str, packages: tuple[str, ...], command: str
) -> None:
    place = Place(tmp_path, tmp_path, name)
    with pytest.raises(WrongInput) as caught:
        prefer(Upgrade(packages), place=place, fixed=("six",), free=())
    assert caught.value.problem.code == "locked-in-repository"
    assert command in caught.value.problem.hint
    beside = prefer(Upgrade(), place=place, fixed=("six",), free=("torch",))
    assert beside.pins == ()
    assert name in beside.notes[0]


def test_versions_of_files_and_package_urls() -> None:
    assert version_in("https://a.test/a_b-1.0%2Bcpu-py3-none-any.whl#x") == "1.0+cpu"
    assert version_in("https://a.test/a_b-1.0.tar.gz") == "1.0"
    assert version_in("https://a.test/download") == ""
    assert purl("A_b", "1.0+cpu") == "pkg:pypi/a-b@1.0%2Bcpu"
    assert purl("a", "") == "pkg:pypi/a"
