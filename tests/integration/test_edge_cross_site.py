"""Requests that another site's page made a browser send do not reach an app."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from edge_harness import LAB, Site, running_site

UPGRADE = [("Upgrade", "websocket"), ("Connection", "Upgrade")]


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Site]:
    async with running_site() as site:
        yield site


@pytest.fixture
def site(shared: Site) -> Site:
    """One for all tests of this module that leave it as they found it."""
    for upstream in (shared.control, shared.lab, shared.code):
        upstream.requests.clear()
    return shared


def fill(site: Site, origin: str | None) -> list[tuple[str, str]]:
    if origin is None:
        return []
    text = origin.replace("{own}", site.origin()).replace("{port}", str(site.port)).replace("{lab}", str(LAB))
    return [("Origin", text)]


ORIGINS = [
    ("{own}", True),
    ("null", False),
    ("https://{lab}.localhost:{port}", False),
    ("http://{lab}.localhost", False),
    ("http://{lab}.localhost:{port}0", False),
    ("http://{lab}.localhost:{port}/", False),
    ("http://localhost:{port}", False),
    ("http://vscode--demo--ada.localhost:{port}", False),
    ("http://evil.example", False),
    ("http://evil.example {own}", False),
    ("{own} {own}", False),
    ("x{own}", False),
    ("{own}.evil.example", False),
]


@pytest.mark.parametrize(("origin", "same"), [*ORIGINS, (None, False)])
async def test_a_websocket_by_cookie_needs_the_very_same_origin(site: Site, origin: str | None, same: bool) -> None:
    answer = await site.ask(headers=[site.cookie(), *UPGRADE, *fill(site, origin)])

    assert answer.status == (200 if same else 403)
    assert len(site.lab.requests) == (1 if same else 0)
    assert site.control.requests == []


@pytest.mark.parametrize(("origin", "same"), [*ORIGINS, (None, True)])
async def test_a_change_by_cookie_must_not_come_from_another_origin(site: Site, origin: str | None, same: bool) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE", "PROPFIND"):
        answer = await site.ask(headers=[site.cookie(), *fill(site, origin)], method=method)
        assert answer.status == (200 if same else 403)
    for method in ("GET", "OPTIONS"):
        assert (await site.ask(headers=[site.cookie(), *fill(site, origin)], method=method)).by == "lab"


async def test_two_origins_are_none_of_ours(site: Site) -> None:
    twice = [("Origin", site.origin()), ("Origin", site.origin())]
    assert (await site.ask(headers=[site.cookie(), *UPGRADE, *twice])).status == 403
    assert (await site.ask(headers=[site.cookie(), *twice], method="POST")).status == 403


@pytest.mark.parametrize("where", ["cross-site", "same-site", "made-up"])
@pytest.mark.parametrize(
    ("method", "mode", "destination", "served"),
    [
        ("GET", "navigate", "document", True),
        ("GET", "navigate", "", True),
        ("GET", "navigate", "iframe", False),
        ("GET", "navigate", "object", False),
        ("POST", "navigate", "document", False),
        ("GET", "no-cors", "image", False),
        ("GET", "no-cors", "script", False),
        ("GET", "cors", "empty", False),
        ("HEAD", "cors", "empty", False),
        ("OPTIONS", "cors", "empty", False),
        ("GET", "websocket", "empty", False),
        ("GET", "", "", False),
    ],
)
async def test_from_elsewhere_a_page_may_be_opened_and_nothing_else(
    site: Site, where: str, method: str, mode: str, destination: str, served: bool
) -> None:
    headers = [("Sec-Fetch-Site", where), ("Sec-Fetch-Mode", mode), ("Sec-Fetch-Dest", destination)]
    sent = [header for header in headers if header[1]]

    assert (await site.ask(headers=[site.cookie(), *sent], method=method)).status == (200 if served else 403)
    assert (await site.ask(headers=sent, method=method)).status == (200 if served else 403)
    assert (await site.ask(path="/.studiolo/x", headers=sent, method=method)).status == (200 if served else 403)
    assert len(site.lab.requests) == (1 if served else 0)


@pytest.mark.parametrize("where", ["same-origin", "none"])
async def test_ones_own_page_may_do_everything(site: Site, where: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        headers = [("Sec-Fetch-Site", where), ("Sec-Fetch-Mode", "cors"), ("Origin", site.origin())]
        assert (await site.ask(headers=[site.cookie(), *headers], method=method)).by == "lab"


async def test_a_program_with_a_key_in_its_header_needs_no_origin(site: Site) -> None:
    key = ("Authorization", f"token {site.key}")
    foreign = [("Origin", "http://evil.example"), ("Sec-Fetch-Site", "cross-site")]
    for more in ([], foreign):
        assert (await site.ask(headers=[key, *more], method="POST")).by == "lab"
        assert (await site.ask(headers=[key, *UPGRADE, *more])).by == "lab"
    # A cookie is sent by browsers unasked, so with one the rules hold again.
    assert (await site.ask(headers=[key, site.cookie(), *foreign], method="POST")).status == 403


async def test_the_control_plane_is_told_and_decides_for_itself(site: Site) -> None:
    async def told(headers: list[tuple[str, str]], method: str = "GET") -> str:
        answer = await site.ask(None, "/x", headers, method=method)
        assert answer.by == "control"
        return str(dict(answer.seen["headers"])["x-studiolo-origin-ok"])

    own, evil = ("Origin", site.origin(None)), ("Origin", "http://evil.example")
    assert await told([]) == "1"
    assert await told([own], "POST") == "1"
    assert await told([], "POST") == "1"
    assert await told([evil]) == "1"
    assert await told([evil], "POST") == "0"
    assert await told([("Sec-Fetch-Site", "same-site")]) == "0"
    assert await told([("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate")]) == "1"
    assert await told([*UPGRADE]) == "0"
    assert await told([*UPGRADE, own]) == "1"


async def test_the_refusal_says_why(site: Site) -> None:
    answer = await site.ask(headers=[site.cookie(), ("Sec-Fetch-Site", "cross-site")])
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.seen["code"] == "cross-site"
