"""What an environment.yml may say, how a conda lock is written, and what the engine's failures mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studiolo.environments import conda_channels, conda_file
from studiolo.environments.conda_export import dockerfile
from studiolo.environments.conda_file import CondaFile, Spec
from studiolo.environments.conda_lock import CondaLock, CondaPackage
from studiolo.environments.conda_program import explain
from studiolo.environments.pins import Pin
from studiolo.problem import Problem, WrongInput

SHA = "sha256:" + "a" * 64
NUMPY = CondaPackage("numpy", "2.1.0", "py312h58c1407_0", "linux-64", "numpy-2.1.0-py312_0.conda", SHA, "conda-forge")


def read(folder: Path, text: str) -> CondaFile:
    path = folder / "environment.yml"
    path.write_text(text)
    return conda_file.read(folder, path)


def problems(folder: Path, text: str) -> list[Problem]:
    with pytest.raises(WrongInput) as caught:
        read(folder, text)
    return list(caught.value.problems)


def test_a_file_as_conda_writes_it(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("six\n--extra-index-url https://example.org/simple/\n")
    file = read(
        tmp_path,
        """
name: analysis
channels: [conda-forge, defaults, nodefaults, 'https://example.org/own/', conda-forge/label/dev]
dependencies:
  - python=3.11  # as everywhere
  - numpy >=1.24,<2
  - conda-forge::pandas=2.*=py311*
  - pip:
      - "rich[jupyter]>=13"
      - -r requirements.txt
      - -e .
variables:
  EMPTY:
  COUNT: 010
  PATH: /somewhere
prefix: /home/ada/miniconda3/envs/analysis
category: main
""",
    )
    assert file.channels == ("conda-forge", "main", "r", "https://example.org/own", "conda-forge/label/dev")
    assert file.specs == (
        Spec("python=3.11", "environment.yml:5:5"),
        Spec("numpy >=1.24,<2", "environment.yml:6:5"),
        Spec("pandas=2.*=py311*", "environment.yml:7:5", "conda-forge"),
    )
    assert [(each.text, each.where) for each in file.pip] == [
        ("rich[jupyter]>=13", "environment.yml:9:9"),
        ("six", "requirements.txt:1:1"),
    ]
    assert [index.url for index in file.indexes] == ["https://example.org/simple/"]
    assert file.included == (tmp_path / "requirements.txt",)
    assert file.variables == {"EMPTY": "", "COUNT": "010"}
    places = [note.partition(": ")[0] for note in file.notes]
    assert places == [f"environment.yml:{at}" for at in ("17:1", "16:1", "11:9", "15:3")]


def test_nothing_said_of_channels_is_conda_forge(tmp_path: Path) -> None:
    assert read(tmp_path, "dependencies: [numpy]\n").channels == ("conda-forge",)
    assert read(tmp_path, "").specs == ()


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("dependancies: [numpy]", "1:1", "did you mean `dependencies`?"),
        ("dependencies: numpy", "1:1", "not a list"),
        ("dependencies:\n  - numpy\n  -", "3:4", "nothing is not a package"),
        ("dependencies:\n  - npm: [left-pad]", "2:5", "only a pip section"),
        ("dependencies:\n  - pip: rich", "2:5", "not a list"),
        ("dependencies:\n  - https://example.org/noarch/x-1-0.conda", "2:5", "by its address"),
        ("dependencies:\n  - defaults::numpy", "2:5", "several channels"),
        ("channels: ['https://ada:secret@example.org/own']", "1:12", "RATTLER_AUTH_FILE"),
        ("channels: ['https://example.org/t/abc-123/own']", "1:12", "RATTLER_AUTH_FILE"),
        ("channels: [t/abc-123/own]", "1:12", "not a channel"),
        ("channels: ['http://example.org/own']", "1:12", "begins with https://"),
        ("channels: ['file:///srv/../etc']", "1:12", "begins with https://"),
        ("channels: [../own]", "1:12", "not a channel"),
        ("channels: [[own]]", "1:12", "a list is not a channel"),
        ("variables: {a-b: 1}", "1:13", "not a variable's name"),
        ('variables: {A: "x\\ny"}', "1:13", "not a line of text"),
        ("name: x\nname: y", "2:1", "twice"),
        ("dependencies:\n\t- numpy", "2:1", "not YAML"),
        ("dependencies:\n  - pip:\n    - -r /etc/passwd", "3:7", "outside the repository"),
        ("dependencies:\n  - pip:\n    - --trusted-host example.org", "3:7", "--trusted-host"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, where: str, words: str) -> None:
    (found,) = problems(tmp_path, text)
    assert found.where == f"environment.yml:{where}"
    assert words in str(found)
    assert "secret" not in str(found)
    assert "abc-123" not in str(found)


def test_all_problems_are_said_at_once_and_a_bomb_is_refused(tmp_path: Path) -> None:
    assert len(problems(tmp_path, "chanels: []\ndependencies: [[], {pip: x}]\nvariables: []\n")) == 4
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
        for before, name in zip("abcdefg", "bcdefgh", strict=True)
    )
    assert problems(tmp_path, bomb)[0].code == "too-large"


def test_the_owners_alias_decides_where_a_name_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDA_CHANNEL_ALIAS", "https://mirror.example.org/conda")
    assert conda_channels.address("conda-forge") == "https://mirror.example.org/conda/conda-forge/"
    assert conda_channels.address("https://example.org/own") == "https://example.org/own/"
    monkeypatch.delenv("CONDA_CHANNEL_ALIAS")
    assert conda_channels.address("conda-forge").endswith("/conda-forge/")


words = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=30)


@given(st.dictionaries(st.from_regex(r"\A[A-Z]{1,8}\Z"), words), st.booleans())
def test_a_lock_is_read_as_it_was_written(variables: dict[str, str], pip: bool) -> None:
    other = CondaPackage("aaa", "1!2", "0", "noarch", "aaa-1-0.tar.bz2", "md5:" + "b" * 32, "https://example.org/own")
    pins = (Pin("six", "1.17.0", "", (SHA,)),) if pip else ()
    lock = CondaLock("linux-64", (NUMPY, other), pins, variables)
    assert CondaLock.parse(lock.text) == CondaLock("linux-64", (other, NUMPY), pins, variables)
    assert CondaLock("linux-64", (other, NUMPY), pins, variables).text == lock.text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "numpy 1\n",
        "# platform linux-64\nnumpy 1 0\n",
        f"# platform linux-64\n{NUMPY.text.replace('numpy-', '../')}\n",
    ],
)
def test_what_is_no_lock_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"conda|locked"):
        CondaLock.parse(text)


@pytest.mark.parametrize("field", ["name", "version", "build", "subdir", "file", "hash", "channel"])
def test_a_channels_words_cannot_break_out_of_their_line(field: str) -> None:
    values = dict(
        zip(("name", "version", "build", "subdir", "file", "hash", "channel"), NUMPY.text.split(), strict=True)
    )
    with pytest.raises(ValueError, match=r"conda|locked"):
        CondaPackage(**{**values, field: f"{values[field]} x\ny"})


def test_a_dockerfile_installs_the_explicit_list() -> None:
    variables = {"GREETING": 'say "$hello" \\ bye'}
    files = dockerfile(CondaLock("linux-64", (NUMPY,), (Pin("six", "1.17.0", "", (SHA,)),), variables))
    assert set(files) == {"Dockerfile", "conda-linux-64.lock", "requirements.txt"}
    lines = files["conda-linux-64.lock"].splitlines()
    assert lines[1] == "@EXPLICIT"
    assert lines[2].endswith(f"/conda-forge/linux-64/numpy-2.1.0-py312_0.conda#{SHA}")
    assert "--file /tmp/conda-linux-64.lock" in files["Dockerfile"]
    assert 'ENV GREETING="say \\"\\$hello\\" \\\\ bye"\n' in files["Dockerfile"]
    assert "--require-hashes" in files["Dockerfile"]
    assert "pip" not in dockerfile(CondaLock("linux-64", (NUMPY,)))["Dockerfile"]


@pytest.mark.parametrize(
    ("failed", "text", "code", "words"),
    [
        ("install", "failed to link x.conda\nCaused by: No space left on device (os error 28)", "disk-full", "disk"),
        ("fetch", "could not find subdir 'noarch' in channel 'https://h/x/'\nCaused by: x", "channel-not-found", "h/x"),
        ("install", "failed to fetch x-1-0.conda\nCaused by: hash mismatch when extracting", "hash-mismatch", "x-1-0"),
        (
            "install",
            "failed to fetch x-1-0.conda\nCaused by: HTTP status client error (404 x)",
            "package-gone",
            "x-1-0",
        ),
        (
            "fetch",
            "HTTP status client error (401 Unauthorized) for url (https://h)",
            "index-unreachable",
            "RATTLER_AUTH",
        ),
        ("fetch", "error sending request\nCaused by: dns error", "index-unreachable", "dns error"),
        ("install", "failed to link x.conda\nCaused by: the moon is full", "environment-failed", "the moon is full"),
        ("solve", "nothing fits\n└─ numpy >=3, for which no candidates", "packages-conflict", "numpy >=3"),
    ],
)
def test_failures_in_our_words(failed: str, text: str, code: str, words: str) -> None:
    problem = explain({"failed": failed, "words": text}, [Spec("numpy>=3", "environment.yml:2:5")]).problem
    assert problem.code == code
    assert words in str(problem)
    assert "\n" not in problem.message
    assert problem.where == ("environment.yml:2:5" if failed == "solve" else "")


def test_an_explanation_of_pages_is_cut_short() -> None:
    pages = "".join(f"├─ package-{number} 1.0 conflicts\n" for number in range(5000))
    assert len(explain({"failed": "solve", "words": pages}, ()).problem.message) < 1200
