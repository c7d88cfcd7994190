from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from studiolo.control.waking import GoOn, Intent, Refuse, Wait, Wake, answer, intent, too_late
from studiolo.resources import AppStatus, Reason, Workspace

CHROME = {
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36"
}
PAGE = {**CHROME, "sec-fetch-site": "none", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
FETCH = {**CHROME, "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}
HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("method", "headers", "found"),
    [
        # a person opens a page
        ("GET", PAGE, "opens"),
        ("HEAD", PAGE, "opens"),
        ("GET", {**PAGE, "sec-fetch-site": "cross-site", "accept": HTML}, "opens"),
        ("GET", {**CHROME, "accept": HTML}, "opens"),  # plain http to another host: no Sec-Fetch headers
        ("GET", {"user-agent": "Lynx/2.9", "accept": "text/html, text/plain, */*;q=0.01"}, "opens"),
        # a browser loads ahead what somebody might open
        ("GET", {**PAGE, "sec-purpose": "prefetch"}, "polls"),
        ("GET", {**PAGE, "sec-purpose": "prefetch;prerender"}, "polls"),
        ("GET", {**CHROME, "accept": HTML, "purpose": "prefetch"}, "polls"),
        ("GET", {**CHROME, "accept": HTML, "x-moz": "prefetch"}, "polls"),
        # a page asks in the background
        ("GET", FETCH, "polls"),
        ("GET", {**FETCH, "accept": HTML}, "polls"),
        ("HEAD", FETCH, "polls"),
        ("OPTIONS", FETCH, "polls"),
        ("GET", {**FETCH, "sec-fetch-mode": "no-cors", "sec-fetch-dest": "script"}, "polls"),
        ("GET", {**CHROME, "accept": "*/*"}, "polls"),
        ("GET", {**CHROME, "accept": "application/json"}, "polls"),
        ("WEBSOCKET", {**CHROME, "origin": "http://localhost"}, "polls"),
        ("WEBSOCKET", {**FETCH, "sec-fetch-mode": "websocket"}, "polls"),
        ("POST", {**FETCH, "sec-fetch-mode": "no-cors"}, "polls"),  # a beacon, as a page is closed
        # a person does something in a page
        ("POST", FETCH, "acts"),
        ("PUT", FETCH, "acts"),
        ("PATCH", {**FETCH, "sec-fetch-mode": "same-origin"}, "acts"),
        ("DELETE", FETCH, "acts"),
        ("POST", {**PAGE, "content-type": "application/x-www-form-urlencoded"}, "acts"),
        ("POST", {**CHROME, "accept": "*/*"}, "acts"),
        # a program
        ("GET", {"user-agent": "curl/8.14", "accept": "*/*"}, "acts"),
        ("GET", {"user-agent": "python-requests/2.32", "accept": "*/*"}, "acts"),
        ("GET", {}, "acts"),
        ("HEAD", {"user-agent": "Wget/1.25"}, "acts"),
        ("POST", {"user-agent": "python-httpx/0.28"}, "acts"),
        ("WEBSOCKET", {"user-agent": "Python/3.13 websockets/15.0"}, "acts"),
        ("GET", {"user-agent": "node", "accept": "*/*", "sec-fetch-mode": "cors"}, "acts"),  # Node's fetch
    ],
)
def test_what_is_behind_a_request(method: str, headers: dict[str, str], found: Intent) -> None:
    assert intent(method, headers) == found


def a_workspace(phase: str = "running", desired: str = "running", app: str = "ready", **more: Any) -> Workspace:
    return Workspace(
        id="w", name="room", owner="ada", project="default", backend="local",
        phase=phase, desired=desired,
        apps=(AppStatus(name="other", kind="command", url="", state="ready"),
              AppStatus(name="lab", kind="command", url="", state=app, reason="no such program")),
        home="", document={}, created=datetime.now(UTC), **more,
    )  # fmt: skip


EVERY: tuple[Intent, ...] = ("opens", "acts", "polls")


@pytest.mark.parametrize("what", EVERY)
def test_an_app_that_answers_gets_the_request(what: Intent) -> None:
    assert answer(what, a_workspace(), "lab") == GoOn()
    # others of the same workspace do not count, and a former run goes on while its successor is built
    assert answer(what, a_workspace(app="starting"), "lab") == Wait()
    assert answer(what, a_workspace(phase="building"), "lab") == GoOn()


@pytest.mark.parametrize("phase", ["stopping", "stopped"])
def test_what_was_stopped_is_woken_by_people_and_programs_and_not_by_a_page_left_open(phase: str) -> None:
    asleep = a_workspace(phase, "stopped", "stopped")
    assert answer("opens", asleep, "lab") == Wake()
    assert answer("acts", asleep, "lab") == Wake()
    refused = answer("polls", asleep, "lab")
    assert isinstance(refused, Refuse)
    assert (refused.status, refused.problem.code) == (503, "stopped")


@pytest.mark.parametrize("what", EVERY)
def test_what_is_stopped_while_a_request_waits_stays_stopped(what: Intent) -> None:
    refused = answer(what, a_workspace("stopping", "stopped", "stopped"), "lab", waited=True)
    assert isinstance(refused, Refuse)
    assert (refused.status, refused.problem.code) == (503, "stopped")
    assert answer(what, a_workspace("pending", app="starting"), "lab", waited=True) == Wait()


@pytest.mark.parametrize("what", EVERY)
@pytest.mark.parametrize(
    ("phase", "app"),
    [
        ("pending", "starting"),
        ("building", "starting"),
        ("starting", "starting"),
        ("stopping", "stopped"),  # it stops, and starts again right after
        ("stopped", "starting"),  # asked to start while it was being noted as stopped
        ("running", "installing"),
        ("running", "restarting"),
    ],
)
def test_what_is_on_its_way_is_waited_for(what: Intent, phase: str, app: str) -> None:
    assert answer(what, a_workspace(phase, app=app), "lab") == Wait()


@pytest.mark.parametrize("what", EVERY)
def test_what_has_failed_is_not_started_by_a_request(what: Intent) -> None:
    reason = Reason(code="app-failed", message="lab: exit status 3", hint="studiolo restart room")
    refused = answer(what, a_workspace("failed", app="stopped", reason=reason), "lab")
    assert isinstance(refused, Refuse)
    assert refused.status == 503
    assert refused.again is None
    assert "exit status 3" in refused.problem.message
    assert refused.problem.hint == "studiolo restart room"

    alone = answer(what, a_workspace(app="failed"), "lab")
    assert isinstance(alone, Refuse)
    assert "no such program" in alone.problem.message


@pytest.mark.parametrize("what", EVERY)
@pytest.mark.parametrize("phase", ["running", "stopped", "failed", "deleting"])
def test_what_is_being_deleted_is_not_there(what: Intent, phase: str) -> None:
    refused = answer(what, a_workspace(phase, "deleted"), "lab")
    assert isinstance(refused, Refuse)
    assert refused.status == 404


def test_who_waited_in_vain_hears_how_far_it_is() -> None:
    refused = too_late(a_workspace("building", app="starting", progress="waiting for its turn: number 3"), "lab", 60)
    assert "after 60 s: waiting for its turn: number 3" in refused.problem.message
    assert refused.again is not None
