"""Figures and states in words."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from studiolo.resources import Block, Phase, Stage, Workspace
from studiolo.server.pages import words
from studiolo.spec.load import load_workspace
from studiolo.spec.resolve import resolve


def workspace(phase: Phase, *stages: Stage) -> Workspace:
    return Workspace(
        id="w1",
        name="tides",
        owner="ada",
        project="default",
        backend="local",
        phase=phase,
        desired="running",
        apps=(),
        home="/home",
        document={},
        stages=stages,
        created=datetime(2026, 11, 21, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.004, "0.00 s"),
        (0.994, "0.99 s"),
        (0.996, "1.0 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (75, "1 min 15 s"),
        (7800, "2 h 10 min"),
        (None, ""),
    ],
)
def test_seconds_have_the_precision_that_matters(value: float | None, text: str) -> None:
    assert words.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(59, "less than a minute"), (60, "1 min"), (3600, "1 h"), (11100, "3 h 5 min"), (345600, "4 days")],
)
def test_a_span_is_coarse(value: float, text: str) -> None:
    assert words.span(value) == text


def test_sizes_and_cores_drop_what_says_nothing() -> None:
    assert words.size(8 * 2**30) == "8 GiB"
    assert words.size(None) == "–"
    assert (words.cores(2.0), words.cores(0.125), words.cores(1.5)) == ("2", "0.12", "1.5")


def test_an_address_loses_its_scheme_and_any_password() -> None:
    assert words.repository("https://ada:secret@github.com/ada/tides.git") == "github.com/ada/tides"
    assert words.repository("/home/ada/tides") == "/home/ada/tides"
    assert words.repository(None) == ""


def test_a_sentence_begins_large_marks_code_and_lets_no_markup_through() -> None:
    assert words.sentence("run `studiolo <up>` & wait") == "Run <code>studiolo &lt;up&gt;</code> &amp; wait"
    assert words.sentence("a lone ` stays") == "A lone ` stays"
    assert words.sentence("<script>") == "&lt;script&gt;"


def test_the_first_stage_that_is_not_done_is_under_way_while_it_starts() -> None:
    found = words.stages(workspace("building", Stage(name="locked", seconds=0.2)))
    assert [(stage["title"], stage["state"]) for stage in found] == [
        ("Locked", "done"),
        ("Building", "current"),
        ("Started", "ahead"),
        ("Ready", "ahead"),
    ]


def test_the_first_stage_that_is_not_done_is_where_it_failed() -> None:
    found = words.stages(workspace("failed", Stage(name="locked", seconds=0.2), Stage(name="built", seconds=3)))
    assert [stage["state"] for stage in found] == ["done", "done", "failed", "ahead"]


def test_a_stopped_workspace_shows_no_stage_under_way() -> None:
    assert {stage["state"] for stage in words.stages(workspace("stopped"))} == {"ahead"}


def test_a_log_line_loses_what_colours_a_terminal() -> None:
    assert words.plain("\x1b[1;32mok\x1b[0m \x1b]0;title\x07\tdone\x07\r\n") == "ok \tdone"


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (Block(kind="compute", name="a", builtin=True, document={"cpu": 1.0, "memory": 2**31}), "1 core, 2 GiB"),
        (Block(kind="compute", name="a", builtin=True, document={}), "no limit"),
        (
            Block(kind="environment", name="a", builtin=False, document={"python": "3.12", "packages": list("abcdef")}),
            "Python 3.12, a, b, c, d and 2 more",
        ),
        (Block(kind="data", name="a", builtin=False, document={"name": "a", "folder": "/srv"}), "/srv"),
    ],
)
def test_a_block_in_a_few_words(block: Block, text: str) -> None:
    assert words.block(block) == text


def test_a_document_that_is_shown_can_be_read_back_and_means_the_same() -> None:
    text = (
        "name: tides\nrepository: https://example.org/tides.git\n"
        'environment: {python: "3.10", packages: ["pandas>=2"]}\n'
        "apps: [jupyterlab, {name: dash, command: [streamlit, run, app.py, --server.port, '{port}'], timeout: 90s}]\n"
        "compute: {cpu: 1500m, memory: 1536MiB}\nenv: {GREETING: 'no', RATIO: '1.0'}\nidle: {after: 1h30m}\n"
    )

    def resolved(source: str) -> dict[str, object]:
        from studiolo.spec.builtin import builtin_blocks

        document = load_workspace(source, "studiolo.yaml", {}).document
        return resolve(document, builtin_blocks(), name=None, repository=None).model_dump(
            mode="json", exclude_defaults=True
        )

    once = resolved(text)
    assert resolved(words.as_yaml(once)) == once
    assert "1536MiB" in words.as_yaml(once)
