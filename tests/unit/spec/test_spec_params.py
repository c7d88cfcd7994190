"""Parameters: types, defaults, -P, and what a reference becomes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studiolo.problem import WrongInput
from studiolo.spec.check import MOST_CHARACTERS
from studiolo.spec.document import Param
from studiolo.spec.load import check_workspace, load_workspace
from studiolo.spec.params import fill, typed
from studiolo.spec.value import Type, Value, as_text, parse_value


def env(params: str, value: str, **given: str) -> str:
    return load_workspace(f"params: {params}\nenv:\n  A: {value}\n", "f", given).document.env["A"]


def told(text: str, **given: str) -> list[str]:
    with pytest.raises(WrongInput) as caught:
        load_workspace(text, "f", given)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("str", "3.10", "3.10"),
        ("str", "", ""),
        ("int", "007", 7),
        ("int", "-4", -4),
        ("float", "0.50", 0.5),
        ("float", "1e3", 1000.0),
        ("bool", "true", True),
        ("bool", "false", False),
        ("int", 5, 5),
        ("float", 5, 5.0),
        ("str", True, "true"),
    ],
)
def test_a_value_is_read_as_its_type(kind: Type, text: Any, value: Value) -> None:
    read = parse_value(kind, text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("int", "1.5"),
        ("int", "x"),
        ("int", ""),
        ("int", " 1"),
        ("int", "1\n"),
        ("int", "٣"),
        ("int", "9" * 50),
        ("int", True),
        ("float", "nan"),
        ("float", "inf"),
        ("float", "1e999"),
        ("float", float("nan")),
        ("bool", "yes"),
        ("bool", 1),
        ("str", ["x"]),
        ("str", "x" * 5000),
    ],
)
def test_what_is_not_of_its_type_is_refused(kind: Type, text: Any) -> None:
    with pytest.raises(ValueError, match=r"is not|longer|must be"):
        parse_value(kind, text)


def test_given_comes_before_default() -> None:
    assert env("{n: {default: a}}", "${params.n}") == "a"
    assert env("{n: {default: a}}", "${params.n}", n="b") == "b"
    assert env("{n: {default: a}}", "${params.n}", n="") == ""
    assert env("{n: {type: bool, default: false}}", "x-${params.n}") == "x-false"
    assert env("{n: {type: int, default: 0}}", "${params.n}${params.n}") == "00"


def test_one_reference_alone_keeps_the_type() -> None:
    data = {"params": {"n": {"type": "int"}}, "a": "${params.n}", "b": [" ${params.n}"], "c": {"d": "${params.n}"}}
    filled = fill(data, {"n": Param(type="int")}, {"n": 4})
    assert filled.data == {"params": {"n": {"type": "int"}}, "a": 4, "b": [" 4"], "c": {"d": 4}}
    assert not filled.problems


def test_substitution_is_not_repeated_and_makes_no_keys() -> None:
    assert env("{a: {}, b: {}}", '"${params.a}"', a="${params.b}", b="x") == "${params.b}"
    assert env("{a: {}}", '"<${params.a}>"', a="${params.a}") == "<${params.a}>"
    assert told('params: {a: {default: B}}\nenv: {"${params.a}": 1}') == [
        (
            'f:2:7: env.${params.a}: "${params.a}" is not a variable\'s name; '
            "use letters, digits and _, and begin with a letter or _"
        )
    ]


def test_a_value_cannot_break_out_of_its_place() -> None:
    loaded = load_workspace("params: {a: {}}\ncompute: '${params.a}'", "f", {"a": "cpu-small"})
    assert loaded.document.compute == "cpu-small"
    for value in ("{cpu: 1}", "a\nenv: {X: 1}", "a: b"):
        assert "is not a name" in told("params: {a: {}}\ncompute: '${params.a}'", a=value)[0]


def test_other_dollar_signs_are_left_alone() -> None:
    for text in ("$HOME", "${HOME}", "$${x}", "${params.a", "params.a"):
        assert env("{a: {default: b}}", f"'{text}'") == text


def test_unknown_and_missing_parameters_are_told_with_suggestions() -> None:
    assert told(
        "params:\n  cores: {type: int}\n  size: {default: x}\ncompute:\n  cpu: ${params.coers}\n", cpres="1", zz="1"
    ) == [
        'f:1:1: params: there is no parameter "cpres"; did you mean `cores`?',
        'f:1:1: params: there is no parameter "zz"; declared are cores, size',
        "f:2:3: params.cores: the parameter cores has no value; give it with -P cores=VALUE",
        'f:5:3: compute.cpu: there is no parameter "coers"; did you mean `cores`?',
    ]
    assert told("name: a", x="1") == ['f:1:1: params: there is no parameter "x"; declare it in params']


def test_a_wrong_value_is_told_once_where_it_is_declared() -> None:
    text = "params:\n  cores: {type: int}\ncompute:\n  cpu: ${params.cores}\nenv: {A: '${params.cores}'}\n"
    assert told(text, cores="many") == ['f:2:3: params.cores: "many" is not a whole number; write 4']
    assert told("params: {n: {type: int, default: x}}\ncompute: {cpu: '${params.n}'}") == [
        'f:1:25: params.n.default: "x" is not a whole number; write 4'
    ]
    assert told("params: {n: {type: text}}\ncompute: {cpu: '${params.n}'}", n="1") == [
        'f:1:14: params.n.type: "text" is not one of str, int, float, bool'
    ]


def test_a_filled_in_value_is_checked_like_a_written_one() -> None:
    text = "params: {m: {}}\ncompute: {memory: '${params.m}'}"
    assert told(text, m="8 GB") == ['f:2:11: compute.memory: "8 GB" is not a size; write 8GiB']


@pytest.mark.timeout(20)
def test_references_cannot_blow_up_the_document() -> None:
    data = {"params": {"x": {}}, "env": {f"A{number}": "${params.x}." * 100 for number in range(100)}}
    with pytest.raises(WrongInput) as caught:
        check_workspace(data, {"x": "y" * 4000})
    assert {problem.code for problem in caught.value.problems} >= {"too-large"}
    assert sum(len(problem.message) for problem in caught.value.problems) < 10_000


def test_what_is_filled_in_counts_only_where_it_is_written_out() -> None:
    room = MOST_CHARACTERS // 4000
    data = {"env": {f"A{number}": "${params.x}-" for number in range(room)}}
    assert not fill(data, {"x": Param()}, {"x": "y" * 4000}).problems
    data["env"]["B"] = "${params.x}-"
    data["env"]["C"] = "${params.x}-"
    assert fill(data, {"x": Param()}, {"x": "y" * 4000}).failed


def test_a_parameter_declared_wrongly_is_not_called_unknown() -> None:
    assert typed({"a": None}, {"a": "1"}) == ({}, [])


@given(
    st.text(max_size=30).filter(lambda text: "\0" not in text),
    st.text(max_size=10).filter(lambda text: not {"$", "\0"} & set(text)),
)
def test_any_text_arrives_unchanged(value: str, around: str) -> None:
    data = {"params": {"a": {}}, "env": {"ONE": "${params.a}", "TWO": f"{around}${{params.a}}{around}"}}
    assert check_workspace(data, {"a": value}).env == {"ONE": value, "TWO": around + value + around}


@given(st.integers(-(10**17), 10**17) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans())
def test_a_value_written_out_is_read_back(value: Value) -> None:
    kind: Type = "bool" if isinstance(value, bool) else "int" if isinstance(value, int) else "float"
    assert parse_value(kind, as_text(value)) == value
