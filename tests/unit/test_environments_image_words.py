"""Images, as far as they are words: references, Dockerfiles, ignore rules, what builders say."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studiolo.environments.image_dockerfile import Dockerfile
from studiolo.environments.image_ignore import Patterns
from studiolo.environments.image_packages import alpine, debian, python, python_folders
from studiolo.environments.image_reference import Reference
from studiolo.environments.image_steps import Steps, read
from studiolo.environments.kind import Package
from studiolo.problem import WrongInput

ZEROS = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "complete", "shown"),
    [
        ("python", "docker.io/library/python:latest", "python:latest"),
        ("python:3.12-slim", "docker.io/library/python:3.12-slim", "python:3.12-slim"),
        ("ada/tools", "docker.io/ada/tools:latest", "ada/tools:latest"),
        ("docker.io/library/python:3", "docker.io/library/python:3", "python:3"),
        ("localhost/x:1", "localhost/x:1", "localhost/x:1"),
        ("reg.example:5000/a/b", "reg.example:5000/a/b:latest", "reg.example:5000/a/b:latest"),
        (f"python:3@{ZEROS}", f"docker.io/library/python@{ZEROS}", f"python@{ZEROS}"),
        (ZEROS, ZEROS, ZEROS),
    ],
)
def test_names_are_read_as_engines_read_them(text: str, complete: str, shown: str) -> None:
    reference = Reference.parse(text)
    assert (reference.text, reference.shown) == (complete, shown)
    assert Reference.parse(reference.text) == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A",
        "a b",
        "../a",
        "a//b",
        "a:",
        "a@",
        "a@sha256:12",
        "a/../b",
        "a?x=1",
        "a#b",
        "a" * 300,
        "-a",
        "a:b:c",
        "http://a",
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(WrongInput):
        Reference.parse(text)


def ignored(rules: str, path: str) -> bool:
    patterns = Patterns.ignoring(rules, ".dockerignore")
    matched = patterns.start()
    names = tuple(path.split("/"))
    for depth in range(1, len(names) + 1):
        matched = patterns.step(names[:depth], matched)
    return patterns.chosen(matched)


@pytest.mark.parametrize(
    ("rules", "out", "left"),
    [
        ("data", ["data", "data/a", "data/a/b"], ["a/data", "database"]),
        ("/data/", ["data/a"], ["a/data"]),
        ("./data", ["data/a"], []),
        ("*.csv", ["a.csv"], ["x/a.csv", "a.csvx"]),
        ("**/*.csv", ["a.csv", "x/a.csv", "x/y/a.csv"], ["a.tsv"]),
        ("*/temp*", ["a/temp", "a/tempo/x"], ["temp", "a/b/temp"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b/c"], ["a", "ab"]),
        ("a/**", ["a/x", "a/x/y"], ["a", "b/a/x"]),
        ("**", ["a", "a/b"], []),
        ("a**b", ["ab", "ax/b", "ax/y/b"], ["axb", "a/x"]),
        ("**a", ["a", "x/a", "x/y/a"], ["ba"]),
        ("temp?", ["temp1"], ["temp", "temp12"]),
        ("[a-c]x", ["ax", "cx"], ["dx"]),
        ("[^a-c]x", ["dx"], ["ax"]),
        (r"\*", ["*"], ["a"]),
        ("# data\n\n  data  \n", ["data"], ["# data"]),
        ("*\n!a.txt", ["b.txt", "x/a.txt"], ["a.txt"]),
        ("*\n!keep", ["b"], ["keep/x/y"]),
        ("!a\n*", ["a"], []),
        ("docs\n!docs/*.md\ndocs/secret.md", ["docs/a", "docs/secret.md"], ["docs/read.md"]),
        ("a/../b", ["b"], ["a"]),
        ("../a", ["a"], []),
    ],
)
def test_ignore_rules(rules: str, out: list[str], left: list[str]) -> None:
    assert [path for path in out + left if ignored(rules, path)] == out


def test_ignore_rules_that_are_none() -> None:
    with pytest.raises(WrongInput) as caught:
        ignored("a\n" + "a**b" * 20, "x")
    assert caught.value.problem.where == ".dockerignore:2:1"
    with pytest.raises(WrongInput, match="more than 1000 patterns"):
        ignored("x\n" * 1001, "x")
    # takes no time, whatever is written
    assert not ignored("/".join(["**/*a*"] * 60), "/".join(["a" * 200] * 59))


@given(st.text(alphabet="ab*?/[]!^-\\.# \n", max_size=30), st.text(alphabet="ab/", min_size=1, max_size=12))
def test_ignore_rules_never_break(rules: str, path: str) -> None:
    clean = "/".join(part for part in path.split("/") if part) or "a"
    with contextlib.suppress(WrongInput):
        ignored(rules, clean)


LONG = """\
# escape=`
ARG VERSION=3.12 OTHER
ARG NAME=python:${VERSION}-slim
FROM --platform=linux/amd64 ${NAME} as Build
RUN one `
# a comment within

    && two
COPY --chown=1:1 ["a file.txt", "src", "/x/"]
COPY <<EOF /etc/conf
FROM nothing
EOF
from build
FROM scratch
COPY --from=build /x /y
COPY --from=0 /x /y
COPY --from=ghcr.io/a/uv:1 /uv /bin/
ADD https://example.org/x.tar b/*.py /z/
RUN --mount=type=bind,from=alpine:3,target=/a ls
"""


def test_a_dockerfile_is_understood() -> None:
    dockerfile = Dockerfile.parse(LONG, "Dockerfile", {"VERSION": "3.13"})
    assert [(base.reference, base.line) for base in dockerfile.bases] == [
        ("python:3.13-slim", 4),
        ("ghcr.io/a/uv:1", 17),
        ("alpine:3", 19),
    ]
    assert dockerfile.sources == ("a file.txt", "b/*.py", "src")
    assert dockerfile.needs_buildkit
    keywords = "ARG ARG FROM RUN COPY COPY FROM FROM COPY COPY COPY ADD RUN"
    assert [each.keyword for each in dockerfile.instructions] == keywords.split()
    index = dockerfile.find("RUN one     && two")
    assert index is not None
    assert dockerfile.place(dockerfile.instructions[index]) == "Dockerfile:5:1"
    pinned = dockerfile.pinned({"python:3.13-slim": "p@x", "ghcr.io/a/uv:1": "u@x", "alpine:3": "a@x"})
    assert pinned.splitlines()[3] == "FROM --platform=linux/amd64 p@x as Build"
    assert "--from=u@x /uv" in pinned
    assert "from=a@x,target" in pinned
    assert "FROM nothing" in pinned
    assert len(pinned.splitlines()) == len(LONG.splitlines())


@pytest.mark.parametrize(
    ("lines", "sources"),
    [
        ("RUN x", ()),
        ("COPY . /x", None),
        ("COPY ./a/../b /x", ("b",)),
        ("COPY ../../etc /x", ("etc",)),
        ("COPY $A /x", None),
        ("ADD git@example.org:a.git https://a.b/c /x", ()),
        ("RUN --mount=target=/x ls", None),
        ("RUN --mount=type=cache,target=/x ls", ()),
        ("ONBUILD COPY a /x", None),
    ],
)
def test_what_is_copied(lines: str, sources: tuple[str, ...] | None) -> None:
    assert Dockerfile.parse(f"FROM a\n{lines}\n", "Dockerfile").sources == sources


def test_a_frontend_from_a_registry_is_not_run() -> None:
    text = "# syntax=docker/dockerfile:1\n# escape=`\nFROM a\n"
    assert Dockerfile.parse(text, "Dockerfile").pinned({}) == "#\n# escape=`\nFROM a\n"


@given(st.text(max_size=200) | st.text(alphabet='FROM ARGUNCPY\\\n$\x7b\x7d<E["]=-#`,', max_size=200))
def test_a_dockerfile_never_breaks_the_reader(text: str) -> None:
    for head in ("", "FROM a\n"):
        with contextlib.suppress(WrongInput):
            dockerfile = Dockerfile.parse(head + text, "Dockerfile")
            dockerfile.pinned({base.reference: "x" for base in dockerfile.bases})
            _ = dockerfile.sources, dockerfile.needs_buildkit


def test_builders_are_heard() -> None:
    steps: list[str] = []
    lines: list[str] = []
    heard = Steps(steps.append, lines.append)
    for piece in (
        "Step 2/7 : RUN a",
        "\n",
        "out\npart",
        "ly\n",
        "[1/2] STEP 2/3: COPY b /\n",
        "STEP 1/2: FROM c\n",
        "rest",
    ):
        heard.hear(piece)
    heard.end()
    assert steps == ["RUN a", "COPY b /", "FROM c"]
    assert lines[1:3] == ["out", "partly"]
    assert lines[-1] == "rest"
    heard.trace("no base64!")
    heard.trace("AAAA")


@given(st.binary(max_size=100))
def test_what_is_no_trace_is_a_value_error_at_worst(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        list(read(data))


def test_package_records() -> None:
    status = (
        "Package: a\nStatus: install ok installed\nVersion: 1:2+b\nDescription: x\n Version: 9\n\n"
        "Package: b\nVersion: 1\n"
    )
    assert list(debian(status, "ubuntu")) == [Package("a", "1:2+b", "", "pkg:deb/ubuntu/a@1%3A2%2Bb")]
    assert list(alpine("P:musl\nV:1.2-r0\nL:MIT\n\nC:x\n")) == [
        Package("musl", "1.2-r0", "MIT", "pkg:apk/alpine/musl@1.2-r0")
    ]
    assert list(python("Name: My.Tool\nVersion: 1\nLicense-Expression: MIT\n\nbody")) == [
        Package("my-tool", "1", "MIT", "pkg:pypi/my-tool@1")
    ]
    assert list(python("nothing")) == []
    assert list(python_folders({"PATH": "/opt/conda/bin:/usr/bin:/bin:relative/bin", "VIRTUAL_ENV": "/venv"})) == [
        "/usr/local/lib",
        "/venv/lib",
        "/opt/conda/lib",
    ]
