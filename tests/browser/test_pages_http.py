"""The pages without a browser: what a person with scripts switched off has, and what htmx is given."""

from __future__ import annotations

import json

import httpx2
import pytest

from pages_studio import CSRF, HTMX, FakeStudio, a_workspace, form
from studiolo.problem import Conflict, Problem, Unavailable


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/new",
        "/new?by=file",
        "/blocks",
        "/blocks/data/new",
        "/blocks/compute/cpu-mid",
        "/blocks/data/tide-gauges",
        "/machine",
    ]
    + [
        f"/workspaces/{name}{part}"
        for name in ("tides", "birdsong", "glacier-melt", "census", "herbarium", "moraine")
        for part in ("", "/environment", "/environment/log", "/logs", "/history", "/document", "/connect", "/delete")
    ],
)
def test_every_page_answers_and_every_form_carries_the_token(http: httpx2.Client, path: str) -> None:
    answer = http.get(path)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.text.count('method="post"') == answer.text.count(f'name="csrf" value="{CSRF}"') >= 1
    assert " style=" not in answer.text
    assert "<script>" not in answer.text


def test_buttons_work_without_scripts(http: httpx2.Client, studio: FakeStudio) -> None:
    assert http.post("/workspaces/tides/stop", data=form(view="room")).headers["location"] == "/"
    assert http.post("/workspaces/herbarium/start", data=form()).headers["location"] == "/workspaces/herbarium"
    assert http.post("/workspaces/census/restart", data=form()).status_code == 303
    assert http.post("/workspaces/birdsong/delete", data=form()).headers["location"] == "/"
    assert http.post("/workspaces/glacier-melt/delete", data=form(purge="true")).status_code == 303
    assert studio.asked == [
        ("stop", "tides"),
        ("start", "herbarium"),
        ("restart", "census"),
        ("delete", "birdsong"),
        ("purge", "glacier-melt"),
    ]


def test_htmx_gets_the_piece_that_changed(http: httpx2.Client) -> None:
    answer = http.post("/workspaces/tides/stop", data={"view": "room"}, headers=HTMX)
    assert answer.status_code == 200
    assert answer.text.strip().startswith("<li")
    assert "Stopping" in answer.text
    assert 'id="head-id-tides"' in http.post("/workspaces/tides/start", data={"view": "head"}, headers=HTMX).text


def test_what_goes_wrong_is_a_page_or_for_htmx_a_notice(http: httpx2.Client, studio: FakeStudio) -> None:
    studio.refusal = Conflict(Problem("deleting", "tides is being deleted", "wait a moment"))
    page = http.post("/workspaces/tides/stop", data=form())
    assert page.status_code == 409
    assert "Tides is being deleted" in page.text
    assert "<html" in page.text
    notice = http.post("/workspaces/tides/stop", data={}, headers=HTMX)
    assert notice.status_code == 409
    assert 'role="alert"' in notice.text
    assert "<html" not in notice.text


def test_without_the_token_nothing_is_done(http: httpx2.Client, studio: FakeStudio) -> None:
    assert http.post("/workspaces/tides/stop").status_code == 403
    assert studio.asked == []


def test_unknown_names_are_said_to_be_so(http: httpx2.Client) -> None:
    answer = http.get("/workspaces/nobody")
    assert answer.status_code == 404
    assert "There is no workspace named nobody" in answer.text
    assert http.get("/workspaces/tides/logs?app=nothing").status_code == 404
    assert http.get("/blocks/unheard-of/new").status_code == 404
    assert http.get("/fragments/secrets/tides").status_code == 404


def test_what_does_not_answer_is_said_to_be_so(http: httpx2.Client, studio: FakeStudio) -> None:
    studio.broken = Unavailable(Problem("agent-silent", "the host agent does not answer", "try `studiolo doctor`"))
    answer = http.get("/")
    assert answer.status_code == 503
    assert "<code>studiolo doctor</code>" in answer.text


def test_signed_out_is_told_how_to_come_in_and_fragments_lead_there(http: httpx2.Client, studio: FakeStudio) -> None:
    studio.signed_in = False
    answer = http.get("/workspaces/tides")
    assert answer.status_code == 401
    assert "studiolo open" in answer.text
    assert "tides" not in answer.text.replace("/workspaces/tides", "")
    assert http.get("/fragments/rooms", headers=HTMX).headers["hx-redirect"] == "/sign-in"


def test_a_piece_of_what_is_gone_is_nothing(http: httpx2.Client, studio: FakeStudio) -> None:
    del studio.found["tides"]
    room = http.get("/fragments/room/id-tides", headers=HTMX)
    assert (room.status_code, room.text.strip()) == (200, "")
    assert http.get("/fragments/head/id-tides", headers=HTMX).headers["hx-redirect"] == "/"


def test_hostile_words_stay_words(http: httpx2.Client, studio: FakeStudio) -> None:
    evil = '"><script>alert(1)</script>'
    studio.found["tides"] = a_workspace(
        "tides", "building", repository=evil, environment=evil, progress=evil, notes=(evil,), document={"name": evil}
    )
    studio.write("jupyterlab", evil)
    for path in (
        "/",
        "/workspaces/tides",
        "/workspaces/tides/logs",
        "/workspaces/tides/document",
        f"/new?repository={evil}",
    ):
        assert "<script>alert" not in http.get(path).text


def test_make_a_workspace_by_choosing(http: httpx2.Client, studio: FakeStudio) -> None:
    answer = http.post(
        "/workspaces",
        data=form(by="choice", repository="https://github.com/ada/moss", name="moss", environment="data-science",
                  compute="cpu-mid", data="tide-gauges", apps=["jupyterlab", "vscode"], idle="1h"),
    )  # fmt: skip
    assert (answer.status_code, answer.headers["location"]) == (303, "/workspaces/moss")
    document = studio.found["moss"].document
    assert document["compute"] == {"cpu": 2.0, "memory": 8 * 2**30}
    assert document["idle"] == {"after": 3600.0}
    assert document["environment"]["packages"] == ["pandas", "scikit-learn", "matplotlib"]
    assert document["data"][0]["folder"] == "/srv/tide-gauges"


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"name": "My Repo", "apps": "vscode"}, "name", "<code>my-repo</code> would do"),
        ({"name": "", "apps": "vscode"}, "name", "needs a name"),
        ({"name": "tides", "apps": "vscode"}, "name", "there is a workspace named tides already"),
        ({"name": "moss"}, "apps", "at least one"),
        ({"name": "moss", "apps": "vscode", "compute": "cpu-medium"}, "compute", "cpu-medium"),
        ({"name": "moss", "apps": "vscode", "idle": "soon"}, "idle", "soon"),
    ],
)
def test_what_is_wrong_stands_beside_its_field(
    http: httpx2.Client, fields: dict[str, str], field: str, words: str
) -> None:
    answer = http.post("/workspaces", data=form(by="choice", **fields))
    assert answer.status_code in (409, 422)
    beside = answer.text.split(f'id="{field}-wrong"')[1].split("</div>")[0]
    assert words.lower() in beside.lower()
    if fields["name"]:
        assert f'value="{fields["name"]}"' in answer.text, "what was typed is kept"


def test_a_pasted_document_is_told_its_lines(http: httpx2.Client, studio: FakeStudio) -> None:
    answer = http.post("/workspaces", data=form(by="file", document="name: moss\ncompute:\n  memory: 8 GB\n"))
    assert answer.status_code == 422
    assert "studiolo.yaml:3:" in answer.text
    assert "memory: 8 GB" in answer.text
    assert http.post("/workspaces", data=form(by="file", document="")).status_code == 422
    made = http.post("/workspaces", data=form(by="file", document="name: moss\ncompute: cpu-small\n"))
    assert made.headers["location"] == "/workspaces/moss"
    assert studio.found["moss"].document["compute"]["cpu"] == 1.0


def test_blocks_are_made_changed_and_deleted(http: httpx2.Client, studio: FakeStudio) -> None:
    made = http.post("/blocks/compute", data=form(name="big", document="cpu: 8\nmemory: 64GiB\n"))
    assert made.headers["location"] == "/blocks#compute"
    assert "8 cores, 64 GiB" in http.get("/blocks").text
    assert "memory: 64GiB" in http.get("/blocks/compute/big").text
    assert http.post("/blocks/compute/big/delete", data=form()).status_code == 303
    assert ("compute", "big") not in studio.own


def test_a_wrong_block_is_shown_again(http: httpx2.Client, studio: FakeStudio) -> None:
    answer = http.post("/blocks/compute", data=form(name="Big One", document="cpu: many"))
    assert answer.status_code == 422
    assert 'id="name-wrong"' in answer.text
    answer = http.post("/blocks/compute", data=form(name="big", document="cpu: many\n"))
    assert answer.status_code == 422
    assert "cpu: many" in answer.text
    assert len(studio.own) == 2


def test_many_changes_are_one_message(http: httpx2.Client, studio: FakeStudio) -> None:
    with http.stream("GET", "/events-stream") as stream:
        lines = stream.iter_lines()
        assert next(lines) == "retry: 1000"
        for percent in range(50):
            tides = studio.found["tides"]
            studio.change(tides, "progress", f"{percent} of 50")
        studio.change(a_workspace("moss", "pending"), "created", "made")
        messages = []
        for line in lines:
            if line.startswith("data:"):
                messages.append(json.loads(line.removeprefix("data:")))
                if messages[-1]["list"]:
                    break
    assert len(messages) <= 3
    assert {identifier for message in messages for identifier in message["workspaces"]} == {"id-tides", "id-moss"}


def test_a_stream_that_is_left_is_closed(http: httpx2.Client, studio: FakeStudio) -> None:
    with http.stream("GET", "/events-stream") as stream:
        next(stream.iter_lines())
    tides = studio.found["tides"]
    for _ in range(200):
        studio.change(tides, "progress", "still at it")
        http.get("/static/studiolo.svg")
        if studio.listeners == 0:
            return
    pytest.fail("the source of events was never closed")
