"""What reaches an app, what reaches the control plane, and what either is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from edge_harness import CODE, LAB, Site, receive, running_site
from studiolo.edge.grants import new_key

OTHER = "k" * 43


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


@pytest_asyncio.fixture(loop_scope="module")
async def own_site() -> AsyncIterator[Site]:
    """For a test that stops or changes something."""
    async with running_site() as site:
        yield site


def told(answer_headers: list[list[str]], name: str) -> list[str]:
    return [value for header, value in answer_headers if header == name]


async def test_a_grant_admits_to_its_own_app_only(own_site: Site) -> None:
    code_key = new_key()
    own_site.grants.link(CODE, code_key, own_site.code.path)

    assert (await own_site.ask(LAB, headers=[own_site.cookie()])).by == "lab"
    assert (await own_site.ask(CODE, headers=[own_site.cookie(code_key)])).by == "code"
    assert (await own_site.ask(CODE, headers=[own_site.cookie()])).by == "control"
    assert (await own_site.ask(LAB, headers=[own_site.cookie(code_key)])).by == "control"

    own_site.grants.unlink(LAB, own_site.key)
    assert (await own_site.ask(LAB, headers=[own_site.cookie()])).by == "control"
    assert len(own_site.lab.requests) == 1
    assert len(own_site.code.requests) == 1


@pytest.mark.parametrize("scheme", ["token", "Bearer", "bearer", "Token"])
async def test_the_key_may_come_in_the_authorization_header_and_goes_no_further(site: Site, scheme: str) -> None:
    answer = await site.ask(headers=[("Authorization", f"{scheme} {site.key}")])

    assert answer.by == "lab"
    assert site.key not in str(answer.seen)


async def test_an_apps_own_authorization_is_passed_on(site: Site) -> None:
    for value in ("Basic YWRhOmJ5cm9u", "Bearer short", f"Bearer {OTHER}"):
        answer = await site.ask(headers=[site.cookie(), ("Authorization", value)])
        assert answer.by == "lab"
        assert told(answer.seen["headers"], "authorization") == [value]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Cookie", "studiolo-grant=")],
        [("Cookie", "studiolo-grant=short")],
        [("Cookie", "studiolo-grant={key}A")],
        [("Cookie", "studiolo-grant=A{key}")],
        [("Cookie", "studiolo-grant={key}.ws")],
        [("Cookie", "studiolo-grant={key}/.")],
        [("Cookie", "studiolo-grant=./{key}")],
        [("Cookie", "studiolo-grant=%2e%2f{key}")],
        [("Cookie", "studiolo-grant=../" + "a" * 40)],
        [("Cookie", "studiolo-grant=" + "/" * 43)],
        [("Cookie", "studiolo-grant=" + "." * 43)],
        [("Cookie", 'studiolo-grant="{key}"')],
        [("Cookie", "xstudiolo-grant={key}")],
        [("Cookie", "Studiolo-Grant={key}")],
        [("Cookie", "studiolo-grant={other}")],
        [("Authorization", "token {other}")],
        [("Authorization", "Basic {key}")],
        [("Authorization", "token {key} x")],
        [("Authorization", "token ../{key}")],
        [("X-Studiolo-Grant", "{lab}/{key}")],
        [("X-Forwarded-Host", "{lab}.localhost")],
    ],
)
async def test_without_a_grant_no_request_reaches_an_app(site: Site, headers: list[tuple[str, str]]) -> None:
    filled = [
        (name, value.format(key=site.key, other=OTHER, lab=LAB) if "{" in value else value) for name, value in headers
    ]
    answer = await site.ask(headers=filled)
    assert answer.by == "control"
    assert told(answer.seen["headers"], "x-studiolo-label") == [str(LAB)]
    answer = await site.ask(headers=filled, method="POST", body=b"secret")
    assert answer.status in (401, 503)
    assert len(site.control.requests) == 1
    assert site.lab.requests == []


async def test_a_miss_is_told_from_a_request_without_a_key(own_site: Site) -> None:
    without = await own_site.ask()
    unknown = await own_site.ask(headers=[own_site.cookie(OTHER)])
    await own_site.lab.stop()
    asleep = await own_site.ask(headers=[own_site.cookie()])

    assert told(without.seen["headers"], "x-studiolo-missed") == []
    assert told(unknown.seen["headers"], "x-studiolo-missed") == ["1"]
    assert told(asleep.seen["headers"], "x-studiolo-missed") == ["1"]


async def test_a_body_that_was_meant_for_an_app_stays_away_from_the_control_plane(own_site: Site) -> None:
    (own_site.lab.path).unlink()
    for body in (b"x" * 10, b"x" * 3_000_000):
        await own_site.ask(headers=[own_site.cookie(), ("Content-Type", "a/b")], method="POST", body=body)
        asked = own_site.control.asked.pop()
        assert not {"content-length", "content-type", "transfer-encoding"} & asked.keys()
    assert own_site.control.requests == []


@pytest.mark.parametrize("path", ["/.studiolo/open", "/.studiolo/", "/%2estudiolo/x", "/a/../.studiolo/x"])
async def test_studiolos_own_paths_go_to_the_control_plane_on_every_app(site: Site, path: str) -> None:
    answer = await site.ask(LAB, path, [site.cookie()], method="POST", body=b"four")

    assert answer.by == "control"
    assert answer.seen["body"] == 4
    assert answer.seen["line"].split(" ")[1] == path
    assert told(answer.seen["headers"], "x-studiolo-label") == [str(LAB)]
    assert told(answer.seen["headers"], "cookie") == [f"studiolo-grant={site.key}"]


async def test_the_control_plane_has_its_own_hosts_and_sees_all_cookies(site: Site) -> None:
    for host in ("localhost", "127.0.0.1", "[::1]", f"localhost:{site.port}", "LOCALHOST"):
        raw = f"GET /x HTTP/1.1\r\nHost: {host}\r\nCookie: studiolo-session=s; a=b\r\nConnection: close\r\n\r\n"
        answer = await site.send(raw.encode())
        assert answer.by == "control"
        assert told(answer.seen["headers"], "host") == [host]
        assert told(answer.seen["headers"], "cookie") == ["studiolo-session=s; a=b"]
        assert told(answer.seen["headers"], "x-studiolo-label") == []


async def test_ipv6_loopback_answers_too(site: Site) -> None:
    raw = f"GET / HTTP/1.1\r\nHost: {site.host()}\r\nCookie: studiolo-grant={site.key}\r\nConnection: close\r\n\r\n"
    assert (await site.send(raw.encode(), "::1")).by == "lab"


FORGED = [
    ("X-Studiolo-Label", "vscode--demo--ada"),
    ("X-Studiolo-Missed", "9"),
    ("X-Studiolo-Origin-Ok", "9"),
    ("X-Studiolo-Grant", "vscode--demo--ada/" + OTHER),
    ("x-studiolo-label", "second"),
    ("X_Studiolo_Label", "underscores"),
    ("X-Forwarded-For", "6.6.6.6"),
    ("X-Forwarded-Host", "evil.example"),
    ("X-Forwarded-Proto", "gopher"),
    ("X-Real-IP", "6.6.6.6"),
    ("Forwarded", "for=6.6.6.6"),
    ("Proxy", "http://evil.example"),
]


async def test_what_the_edge_says_cannot_be_forged(site: Site) -> None:
    places = [(None, "/"), (LAB, "/"), (LAB, "/.studiolo/x"), (CODE, "/")]
    for label, path in places:
        honest = await site.ask(label, path, [site.cookie()])
        forged = await site.ask(label, path, [site.cookie(), *FORGED])
        assert forged.by == honest.by
        assert forged.seen["headers"] == honest.seen["headers"]
    headers = (await site.ask(headers=[site.cookie(), *FORGED])).seen["headers"]
    assert not [name for name, _ in headers if "studiolo" in name]
    assert told(headers, "x-forwarded-for") == ["127.0.0.1"]
    assert told(headers, "x-forwarded-proto") == ["http"]
    assert told(headers, "x-forwarded-host") == [site.host()]


@pytest.mark.parametrize(
    ("sent", "left"),
    [
        ("studiolo-grant={key}", None),
        ("studiolo-grant={key}; a=1; b=2", "a=1; b=2"),
        ("a=1; studiolo-grant={key}; b=2", "a=1; b=2"),
        ("a=1; b=2; studiolo-grant={key}", "a=1; b=2"),
        ("studiolo-session=s; studiolo-grant={key}", None),
        ("a=1; studiolo-session=s; studiolo-grant={key}; b=2; studiolo-grant=x; studiolo-session=", "a=1; b=2"),
        ("studiolo-grant={key};a=1;studiolo-session=s;b=2", "a=1;b=2"),
        ("studiolo-grant =x; studiolo-grant={key}; a=studiolo-grant=; b", "a=studiolo-grant=; b"),
        ("xstudiolo-grant=1; studiolo-grantx=2; studiolo-grant={key}", "xstudiolo-grant=1; studiolo-grantx=2"),
        ('_xsrf="2|a:b|c="; studiolo-grant={key}; e=', '_xsrf="2|a:b|c="; e='),
        ("a=1; " + "studiolo-session=s; " * 9 + "studiolo-grant={key}", None),
        (
            "; ".join(f"c{n}={n}" * 20 for n in range(150)) + "; studiolo-grant={key}",
            "; ".join(f"c{n}={n}" * 20 for n in range(150)),
        ),
    ],
)
async def test_studiolos_cookies_are_taken_out_and_others_left(site: Site, sent: str, left: str | None) -> None:
    answer = await site.ask(headers=[("Cookie", sent.replace("{key}", site.key))])

    assert answer.by == "lab"
    assert told(answer.seen["headers"], "cookie") == ([] if left is None else [left])


async def test_cookies_in_several_lines_are_one_list(site: Site) -> None:
    answer = await site.ask(headers=[("Cookie", "a=1"), site.cookie(), ("Cookie", "studiolo-session=s")])

    assert answer.by == "lab"
    assert told(answer.seen["headers"], "cookie") == ["a=1"]


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "jupyterlab--demo--ada.evil.example",
        "jupyterlab--demo--ada.localhost.evil.example",
        "evil.jupyterlab--demo--ada.localhost",
        "jupyterlab--demo--ada.localhost.",
        "localhost.",
        "jupyterlab--demo.localhost",
        "jupyterlab--demo--ada--x.localhost",
        "-jupyterlab--demo--ada.localhost",
        "jupyterlab--demo--ada-.localhost",
        "a" * 60 + "--demo--ada.localhost",
        "..localhost",
        "../jupyterlab--demo--ada.localhost",
        "jupyterlab--demo--ada/../x.localhost",
        "%6aupyterlab--demo--ada.localhost",
        "127.0.0.2",
        "[::2]",
        "",
        "localhost evil",
        "localhost:8800:1",
    ],
)
async def test_other_hosts_are_turned_away(site: Site, host: str) -> None:
    raw = f"GET / HTTP/1.1\r\nHost: {host}\r\nCookie: studiolo-grant={site.key}\r\nConnection: close\r\n\r\n"
    assert (await site.send(raw.encode())).status in (400, 421)
    assert site.lab.requests == site.control.requests == []


@pytest.mark.parametrize(
    ("line", "hosts"),
    [
        ("GET http://localhost/ HTTP/1.1", ["{lab}"]),
        ("GET http://{lab}/ HTTP/1.1", ["localhost"]),
        ("GET http://{lab}/ HTTP/1.1", ["evil.example"]),
        ("GET http://{lab}/ HTTP/1.0", []),
        ("GET http://{lab}/ HTTP/1.1", []),
        ("GET / HTTP/1.1", []),
        ("GET / HTTP/1.0", []),
        ("GET / HTTP/1.1", ["{lab}", "localhost"]),
        ("GET / HTTP/1.1", ["{lab}", "{lab}"]),
        ("GET / HTTP/1.1", ["{lab}, localhost"]),
        ("CONNECT {lab}:80 HTTP/1.1", ["{lab}"]),
        ("TRACE / HTTP/1.1", ["{lab}"]),
        ("GET /%00 HTTP/1.1", ["{lab}"]),
        ("GET / HTTP/2.0", ["{lab}"]),
    ],
)
async def test_requests_that_say_two_things_are_turned_away(site: Site, line: str, hosts: list[str]) -> None:
    lines = [line, *(f"Host: {host}" for host in hosts), f"Cookie: studiolo-grant={site.key}", "Connection: close"]
    raw = "\r\n".join([*lines, "", ""]).replace("{lab}", f"{LAB}.localhost")

    assert (await site.send(raw.encode())).status in (400, 405, 421, 505)
    assert site.lab.requests == site.control.requests == []


@pytest.mark.parametrize(
    "path",
    ["/a/../b", "//double//", "/a%2Fb", "/a?b=/../c&d=%00", "/%E2%82%AC", "/x;y=1:2", "/:"],
)
async def test_an_app_sees_the_path_as_it_was_sent(site: Site, path: str) -> None:
    answer = await site.ask(path=path, headers=[site.cookie()])
    assert answer.by == "lab"
    assert answer.seen["line"] == f"GET {path} HTTP/1.1"


@pytest.mark.parametrize("path", ["/../x", "/%2e%2e/x", "/a/../../x", "/.studiolo/../../x"])
async def test_a_path_out_of_the_root_is_turned_away(site: Site, path: str) -> None:
    assert (await site.ask(path=path, headers=[site.cookie()])).status == 400
    assert (await site.ask(None, path)).status == 400
    assert site.lab.requests == site.control.requests == []


async def test_an_absolute_request_line_that_agrees_with_its_host_is_served(site: Site) -> None:
    host = site.host()
    raw = f"GET http://{host}/p?q HTTP/1.1\r\nHost: {host.upper()}\r\nCookie: studiolo-grant={site.key}\r\n\r\n"
    answer = await site.send(raw.encode())
    assert answer.by == "lab"
    assert answer.seen["line"] == "GET /p?q HTTP/1.1"


async def test_bodies_arrive_whole(site: Site) -> None:
    for size in (1, 100_000, 10_000_000):
        answer = await site.ask(headers=[site.cookie()], method="POST", body=b"x" * size)
        assert (answer.by, answer.seen["body"]) == ("lab", size)
    head = f"PUT /f HTTP/1.1\r\nHost: {site.host()}\r\nCookie: studiolo-grant={site.key}\r\n"
    head += "Transfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(b"1000\r\n" + b"x" * 4096 + b"\r\n" for _ in range(50)) + b"0\r\n\r\n"
    answer = await site.send(head.encode() + chunks)
    assert (answer.by, answer.seen["body"]) == ("lab", 50 * 4096)


async def test_a_connection_is_kept_and_each_request_on_it_is_judged_anew(own_site: Site) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", own_site.port)
    asked = []
    for headers in (f"Cookie: studiolo-grant={own_site.key}\r\n", "", f"Cookie: studiolo-grant={own_site.key}\r\n"):
        writer.write(f"GET / HTTP/1.1\r\nHost: {own_site.host()}\r\n{headers}\r\n".encode())
        asked.append((await receive(reader)).by)
    own_site.grants.unlink(LAB, own_site.key)
    writer.write(f"GET / HTTP/1.1\r\nHost: {own_site.host()}\r\nCookie: studiolo-grant={own_site.key}\r\n\r\n".encode())
    asked.append((await receive(reader)).by)
    writer.close()

    assert asked == ["lab", "control", "lab", "control"]


async def test_a_stream_is_passed_on_as_it_comes(own_site: Site) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", own_site.port)
    writer.write(
        f"GET /events HTTP/1.1\r\nHost: {own_site.host()}\r\nCookie: studiolo-grant={own_site.key}\r\n\r\n".encode()
    )
    await asyncio.wait_for(reader.readuntil(b"data: 1\n\n"), 5)  # the app has not ended its answer yet
    own_site.lab.go_on.set()
    await asyncio.wait_for(reader.readuntil(b"data: 2\n\n"), 5)
    writer.close()


@pytest.mark.parametrize("status", [401, 403, 404, 418, 419, 420, 421, 500, 502, 503, 504])
async def test_what_an_app_answers_is_its_own(site: Site, status: int) -> None:
    answer = await site.ask(path=f"/status/{status}", headers=[site.cookie()])
    assert (answer.status, answer.by) == (status, "lab")


async def test_an_app_cannot_steer_the_edge(site: Site) -> None:
    answer = await site.ask(path="/steer", headers=[site.cookie()])
    assert answer.by == "lab"
    assert "x-accel-redirect" not in answer.headers
    assert site.control.requests == []


async def test_pages_and_programs_are_told_that_the_control_plane_is_down_and_apps_go_on(own_site: Site) -> None:
    await own_site.control.stop()
    for label, path in ((None, "/"), (LAB, "/"), (LAB, "/.studiolo/x"), (CODE, "/")):
        page = await own_site.ask(label, path, [("Sec-Fetch-Mode", "navigate")])
        assert page.status == 503
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["retry-after"] == "1"
        assert b'http-equiv="refresh"' in page.body
        plain = await own_site.ask(label, path, [("Accept", "text/html"), ("Sec-Fetch-Mode", "cors")])
        assert plain.status == 503
        assert plain.headers["content-type"] == "application/problem+json"
        assert plain.seen["code"] == "control-plane-down"
    assert (await own_site.ask(headers=[("Accept", "text/html,*/*")])).headers["content-type"].startswith("text/html")
    assert (await own_site.ask(headers=[own_site.cookie()])).by == "lab"


async def test_the_page_for_bad_times_cannot_be_asked_for(site: Site) -> None:
    assert (await site.ask(None, "/.studiolo/down")).status == 404
    assert (await site.ask(LAB, "/.studiolo/down")).status == 404


async def test_static_files_need_no_control_plane(own_site: Site) -> None:
    static = own_site.layout.run / "edge" / "static"
    static.unlink()
    static.mkdir()
    (static / "a.css").write_text("a{}" * 1000)
    (own_site.layout.run / "secret.css").write_text("no")
    await own_site.control.stop()

    answer = await own_site.ask(None, "/static/a.css?v=1", [("Accept-Encoding", "gzip")])
    assert (answer.status, answer.headers["content-type"]) == (200, "text/css")
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-encoding"] == "gzip"
    for path in (
        "/static/../secret.css",
        "/static/..%2f..%2fsecret.css",
        "/static../secret.css",
        "/static/",
        "/static//etc/passwd",
    ):
        assert (await own_site.ask(None, path)).status in (400, 403, 404, 503)


async def test_nothing_secret_is_logged(own_site: Site) -> None:
    await own_site.lab.stop()
    await own_site.control.stop()
    await own_site.ask(headers=[own_site.cookie()])
    await own_site.ask(None, f"/sign-in?token={own_site.key}")
    await own_site.ask(headers=[own_site.cookie(), ("Upgrade", "websocket"), ("Origin", own_site.origin())])
    await own_site.edge.stop()

    for log in own_site.layout.logs.iterdir():
        assert log.read_text() == ""
