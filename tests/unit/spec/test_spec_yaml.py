"""YAML text to data and places; what is hostile is refused early."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from studiolo.problem import Problem, WrongInput
from studiolo.spec.check import MOST_CHARACTERS
from studiolo.spec.yaml import read_yaml


def refused(text: str | bytes) -> tuple[Problem, ...]:
    with pytest.raises(WrongInput) as caught:
        read_yaml(text, "f.yaml")
    assert caught.value.exit_status == 2
    return caught.value.problems


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("3.10", "3.10"),
        ("no", "no"),
        ("true", "true"),
        ("22:22", "22:22"),
        ("0o17", "0o17"),
        ("1_000", "1_000"),
        ("2026-11-21", "2026-11-21"),
        ("'null'", "null"),
        ("''", ""),
        ("null", None),
        ("~", None),
        ("", None),
        ("'null' # comment", "null"),
        ("|\n  a\n  b\n", "a\nb\n"),
        ("[1, {b: no}]", ["1", {"b": "no"}]),
    ],
)
def test_scalars_keep_the_text_they_were_written_as(written: str, read: object) -> None:
    assert read_yaml(f"a: {written}", "f.yaml").data == {"a": read}


def test_places_are_those_of_keys_and_items() -> None:
    places = read_yaml("name: x\napps:\n  - one\n  - name: two\n    kind: vscode\nenv: {A: 1}\n", "f.yaml").positions

    assert places.locate(("name",)) == "f.yaml:1:1"
    assert places.locate(("apps", 0)) == "f.yaml:3:5"
    assert places.locate(("apps", 1, "kind")) == "f.yaml:5:5"
    assert places.locate(("env", "A")) == "f.yaml:6:7"
    assert places.locate(("apps", 1, "command", 3)) == "f.yaml:4:5", "the nearest thing around it"
    assert places.locate(()) == "f.yaml:1:1"


def test_a_problem_with_a_field_path_gets_its_place_in_the_file() -> None:
    places = read_yaml("compute:\n    memory: 8 GB\n", "f.yaml").positions
    problem = places.located(Problem("wrong-value", "is wrong", "write 8GiB", "compute.memory"))
    assert str(problem) == "f.yaml:2:5: compute.memory: is wrong; write 8GiB"
    assert places.located(Problem("x", "y", where="compute.memory.unit[3]")).where == "f.yaml:2:5"
    assert places.located(Problem("x", "y", where="elsewhere")).where == "f.yaml:1:1"


@pytest.mark.parametrize("nothing", ["", "\n\n", "# only a comment\n", "---\n", "null", b"", b"\xef\xbb\xbf"])
def test_an_empty_file_is_an_empty_mapping(nothing: str | bytes) -> None:
    assert read_yaml(nothing, "f.yaml").data == {}


def test_bytes_may_begin_with_a_byte_order_mark() -> None:
    assert read_yaml(b"\xef\xbb\xbfname: \xc3\xa9", "f.yaml").data == {"name": "é"}


def test_aliases_are_resolved() -> None:
    tree = read_yaml("a: &x {b: [1]}\nc: *x\nd: &y text\ne: *y\n", "f.yaml")
    assert tree.data == {"a": {"b": ["1"]}, "c": {"b": ["1"]}, "d": "text", "e": "text"}
    assert tree.positions.locate(("c", "b", 0)) == "f.yaml:2:1", "where it is used"


def test_all_duplicate_keys_are_told_at_once() -> None:
    problems = refused("a: 1\nb: {c: 1, c: 2}\na: 2\n")
    assert [problem.where for problem in problems] == ["f.yaml:2:11", "f.yaml:3:1"]
    assert {problem.code for problem in problems} == {"duplicate-key"}
    assert "b.c" in problems[0].message
    assert "first in line 1" in problems[1].message


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("- a\n", "1:1", "not a mapping"),
        ("text", "1:1", "not a mapping"),
        ("a: b: c", "1:5", "mapping values"),
        ("a:\n\t- b", "2:1", "indent with spaces"),
        ("a: !!python/object:os.system x", "1:4", "tag"),
        ("!mine {a: 1}", "1:1", "tag"),
        ("a: 1\n---\nb: 2\n", "2:1", "several documents"),
        ("a: *nobody", "1:4", "&nobody"),
        ("a: &a [*a]", "1:8", "&a"),
        ("? [1]\n: 2\n", "1:3", "key must be text"),
        ("{a: 1}: 2\n", "1:1", "key must be text"),
        ("ok: 1\nname: a\x00b", "2:8", "#x0000"),
        ("a: 'open", "1:9", "close the quote"),
        (b"ok: 1\nname: \xff", "2:1", "UTF-8"),
        ("a: 1\n".encode("utf-16"), "1:1", "UTF-8"),
        (b"\x7fELF" + bytes(100), "1:1", "not"),
    ],
)
def test_what_is_no_plain_yaml_is_refused_with_its_place(text: str | bytes, where: str, words: str) -> None:
    (problem,) = refused(text)
    assert problem.where == f"f.yaml:{where}"
    assert words in str(problem)


_LAUGHS = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 12)
)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("text", "code"),
    [
        pytest.param(_LAUGHS, "too-large", id="billion laughs"),
        pytest.param("x" * 10_000_000, "too-large", id="10 MB of text"),
        pytest.param(b"a: " + b"x" * 10_000_000, "too-large", id="10 MB of bytes"),
        pytest.param("a: " + "[" * 100_000, "too-deep", id="deep lists"),
        pytest.param("a: " + "{a: " * 50_000, "too-deep", id="deep mappings"),
        pytest.param("\n".join(" " * depth + "a:" for depth in range(600)), "too-deep", id="deep blocks"),
        pytest.param("a:\n" + "- x\n" * 50_000, "too-large", id="many items"),
        pytest.param("a: &x {b: c}\nd: [" + "*x," * 30_000 + "]", "too-large", id="many aliases"),
        pytest.param("a: {" + "? " * 50_000, "not-yaml", id="many question marks"),
    ],
)
def test_bombs_are_refused_early(text: str | bytes, code: str) -> None:
    (problem,) = refused(text)
    assert problem.code == code
    assert len(str(problem)) < 300


@pytest.mark.timeout(20)
def test_a_file_of_the_largest_size_is_read() -> None:
    text = "a: " + "x" * (MOST_CHARACTERS - 3)
    assert len(read_yaml(text, "f.yaml").data["a"]) == MOST_CHARACTERS - 3


@given(
    st.one_of(
        st.text(max_size=200), st.binary(max_size=200), st.text(alphabet="ab:-[]{}&*!|>'\"#%@?, \n\t", max_size=80)
    )
)
@example("a: &a\n  *a : 1")
@example("%YAML 1.1\n---\na: no")
@example("%TAG ! tag:x,2000:\n---\na: !b c")
@example('a: "\\ud800"')
def test_any_text_is_read_or_refused_with_its_place(text: str | bytes) -> None:
    try:
        data = read_yaml(text, "f.yaml").data
    except WrongInput as error:
        assert all(problem.where.startswith("f.yaml:") for problem in error.problems)  # noqa: PT017  both are right
        return
    # Halves of an escaped pair that stand alone are refused with the rest of the document.
    assert json.loads(json.dumps(data)) == data


_plain = st.recursive(
    st.none() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=15,
)


@given(st.dictionaries(st.text(max_size=10), _plain, max_size=5))
def test_json_is_yaml(data: dict[str, object]) -> None:
    assert read_yaml(json.dumps(data), "f.yaml").data == data


def test_every_example_is_read() -> None:
    examples = sorted((Path(__file__).parents[3] / "examples").glob("*/studiolo.yaml"))
    assert examples
    for example_file in examples:
        assert read_yaml(example_file.read_bytes(), example_file.name).data["name"] == example_file.parent.name
