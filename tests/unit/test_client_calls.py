"""The SDK against a small real server: both clients, answers, problems, streams and programs."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import studiolo
from client_server import TOKEN, State, serving, workspace
from studiolo.client import AsyncClient, Client, LogLine, Output
from studiolo.client.call import Call, Lines, Stream, failure
from studiolo.layout import Layout
from studiolo.problem import Conflict, Denied, NotFound, StudioloError, Unavailable, WrongInput
from studiolo.resources import WorkspaceCreate


@pytest.fixture
def state() -> State:
    return State({"demo": workspace("demo")})


@pytest.fixture
def layout(state: State, tmp_path: Path) -> Iterator[Layout]:
    with serving(state, Layout(tmp_path / "home")) as layout:
        yield layout


def test_the_package_offers_both_clients() -> None:
    assert studiolo.Client is Client
    assert studiolo.AsyncClient is AsyncClient
    with pytest.raises(AttributeError, match="Clientele"):
        _ = studiolo.Clientele


def test_a_call_returns_resources(layout: Layout) -> None:
    with Client.local(layout) as client:
        assert [found.name for found in client.workspaces()] == ["demo"]
        assert client.workspace("demo").apps[0].name == "jupyterlab"
        assert client.delete_block is not None
        assert client.me().role == "owner"


async def test_the_same_calls_are_awaited_by_the_other_client(layout: Layout) -> None:
    async with AsyncClient.local(layout) as client:
        assert [found.name for found in await client.workspaces()] == ["demo"]
        assert (await client.workspace("id-demo")).name == "demo"
        with pytest.raises(NotFound):
            await client.workspace("nobody")


def test_calls_are_documented_where_people_look(layout: Layout) -> None:
    with Client.local(layout) as client:
        assert "Raises `NotFound`" in (Client.workspace.__doc__ or "")
        assert client.workspace("demo").name == "demo"


def test_a_body_is_sent_whole(layout: Layout, state: State) -> None:
    wish = WorkspaceCreate(document={"env": {"KEY": "värde"}}, name="new", params={"year": "2026"}, replace=True)
    with Client.local(layout) as client:
        assert client.create(wish).name == "new"
    assert state.asked == [wish]


def test_an_answer_without_content_is_none(layout: Layout) -> None:
    with Client.local(layout) as client:
        client.put_block("compute", "small", {"cpu": "1"})
        assert [block.name for block in client.blocks("compute")] == ["small"]
        client.delete_block("compute", "small")
        assert client.blocks("compute") == []


@pytest.mark.parametrize("ref", ["", ".", "..", "../me", "demo/history", "demo?x", "Demo"])
def test_a_name_cannot_leave_its_place_in_the_path(layout: Layout, ref: str) -> None:
    with Client.local(layout) as client:
        with pytest.raises(NotFound, match="nor could one have that name"):
            client.workspace(ref)
        with pytest.raises(NotFound), client.exec(ref, ["true"]):
            pass


def test_problems_come_back_as_they_were_raised(layout: Layout) -> None:
    with Client.local(layout) as client, pytest.raises(NotFound) as raised:
        client.workspace("nobody")
    assert raised.value.problem.code == "workspace-unknown"
    assert raised.value.problem.hint == "run `studiolo ps`"


def test_a_wrong_token_is_denied(layout: Layout) -> None:
    layout.token.write_text("another")
    with Client.local(layout) as client, pytest.raises(Denied, match="sign in first"):
        client.workspaces()


def test_an_answer_that_is_no_problem_document_is_quoted(layout: Layout) -> None:
    with Client.local(layout) as client, pytest.raises(StudioloError, match="answered 502: <html>bad"):
        client.send(Call("GET", "/broken", dict))


def test_an_answer_of_another_version_is_told_so(layout: Layout) -> None:
    with Client.local(layout) as client, pytest.raises(StudioloError) as raised:
        client.send(Call("GET", "/workspaces", int))
    assert raised.value.problem.code == "answer-not-understood"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Denied), (403, Denied), (404, NotFound), (409, Conflict), (422, WrongInput), (503, Unavailable)],
)
def test_the_status_says_which_error_it_is(status: int, kind: type[StudioloError]) -> None:
    assert type(failure(status, b"")) is kind
    assert failure(status, b"").problem.code == f"http-{status}"


def hint_of(ask: Callable[[], object]) -> str:
    try:
        ask()
    except Unavailable as error:
        return error.problem.hint
    raise AssertionError("it is available")


# httpcore2 leaves the socket of a refused connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_a_studiolo_the_hint_is_up(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "home")
    assert hint_of(lambda: Client.local(layout)) == "run `studiolo up`"
    layout.prepare()
    layout.token.write_text("left over")
    with Client.local(layout) as client:
        assert hint_of(client.workspaces) == "run `studiolo up`"
    gc.collect()


def test_a_url_that_nobody_answers_at_is_unavailable() -> None:
    with (
        Client("http://127.0.0.1:9", TOKEN) as client,
        pytest.raises(Unavailable, match=r"127\.0\.0\.1:9 does not answer"),
    ):
        client.workspaces()


def test_the_token_is_not_in_what_is_printed(layout: Layout) -> None:
    with Client.local(layout) as client:
        assert TOKEN not in repr(client._address)


def test_log_lines_keep_characters_that_end_lines_elsewhere(layout: Layout, state: State) -> None:
    state.log = ["a\u2028b", "c\x85d", "e\x0cf"]
    with Client.local(layout) as client:
        assert [line.text for line in client.logs("demo")] == state.log


def test_a_line_may_arrive_in_any_pieces() -> None:
    received = LogLine(app="a", text="ä\u2028").model_dump_json().encode() + b"\r\n\n"
    for cut in range(len(received)):
        lines = Lines(Stream("/", lambda line: LogLine.model_validate_json(line) if line else None))
        found = [item for piece in (received[:cut], received[cut:]) for item in lines.feed(piece)]
        assert [line.text for line in found] == ["ä\u2028"]


def test_a_stream_of_what_is_unknown_is_refused(layout: Layout) -> None:
    with Client.local(layout) as client, pytest.raises(NotFound):
        list(client.logs("nobody"))


def test_events_go_on_after_one_and_end_when_it_is_quiet(layout: Layout, state: State) -> None:
    for kind in ("created", "locked", "ready"):
        state.tell("demo", kind)
    with Client.local(layout) as client:
        seen = client.events(after=1, workspace="demo", quiet=0.2)
        assert [(event.id, event.kind) for event in seen] == [(2, "locked"), (3, "ready")]


async def test_events_come_while_they_happen(layout: Layout, state: State) -> None:
    state.tell("demo", "created")
    async with AsyncClient.local(layout) as client:
        seen = [event.kind async for event in client.events(after=0, quiet=0.2)]
    assert seen == ["created"]


def test_a_program_gets_its_input_and_says_how_it_ended(layout: Layout) -> None:
    with Client.local(layout) as client, client.exec("demo", ["cat"]) as execution:
        execution.write(b"one ")
        execution.write(b"two")
        execution.write(b"")
        said = list(execution)
    assert b"".join(output.data for output in said) == b"one two"
    assert execution.status == 0


def test_a_failing_program_is_no_error_of_ours(layout: Layout) -> None:
    with Client.local(layout) as client, client.exec("demo", ["frobnicate"]) as execution:
        assert list(execution) == [Output(2, b"frobnicate: not here\n")]
    assert execution.status == 7


async def test_a_terminal_has_a_size(layout: Layout) -> None:
    async with AsyncClient.local(layout) as client, client.exec("demo", ["size"], tty=(80, 24)) as execution:
        await execution.resize(100, 30)
        said = [output.data async for output in execution]
    assert said == [b"[80, 24]", b'{"resize": [100, 30]}']


def test_exec_reports_what_the_server_refuses(layout: Layout) -> None:
    with (
        Client.local(layout) as client,
        client.exec("nobody", ["true"]) as execution,
        pytest.raises(NotFound, match="there is no workspace nobody"),
    ):
        list(execution)


def test_a_connection_that_ends_before_the_program_is_told(layout: Layout) -> None:
    with (
        Client.local(layout) as client,
        client.exec("demo", ["vanish"]) as execution,
        pytest.raises(Unavailable, match="lost before the program ended"),
    ):
        list(execution)
