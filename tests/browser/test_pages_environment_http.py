"""The environment's pages without a browser: what a person with scripts switched off has, and what htmx is given."""

from __future__ import annotations

import html
import io
import json
import re
import zipfile

import httpx2
import pytest

from pages_environments import a_generation, contents
from pages_studio import HTMX, FakeStudio, a_workspace, form
from studiolo.problem import Conflict, Problem
from studiolo.resources import OverlayPackage, Package, Reason

PAGE = "/workspaces/tides/environment"


def words_of(text: str) -> str:
    """What a person reads, in one line."""
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text)))


def rows(page: str) -> dict[int, str]:
    """The rows of the time line by number."""
    parts = page.split('<li class="turn ')[1:]
    return {int(re.findall(r"Generation (\d+)", part)[0]): part.split("</li>")[0] for part in parts}


def buttons(row: str) -> list[str]:
    return [found.strip() for found in re.findall(r"<button.*?>(.*?)<span", row)]


def test_the_time_line_tells_of_each_and_offers_what_can_be_done(http: httpx2.Client) -> None:
    found = rows(http.get(PAGE).text)
    assert list(found) == [6, 5, 4, 3, 2, 1]
    told = {number: words_of(row) for number, row in found.items()}
    assert "Generation 6 rolled back" in told[6]
    assert "Generation 5 current" in told[5]
    assert "Generation 1 removed" in told[1]
    assert "its kernel does not start" in told[3].lower()
    assert "23 packages of generation 1 , Python 3.11.2, from uv.lock" in told[1]
    assert "by grace" in told[2]
    assert "built in" not in told[2]
    assert "built in 8.2 s" in told[4]
    assert {number: buttons(row) for number, row in found.items()} == {
        6: ["Pin to it", "Go to it"],
        5: ["Pin"],
        4: ["Pin to it", "Roll back to it"],
        3: [],
        2: ["Pin to it", "Roll back to it"],
        1: ["Pin to it", "Roll back to it"],
    }


def test_going_to_one_and_pinning_work_without_scripts(http: httpx2.Client, studio: FakeStudio) -> None:
    answer = http.post("/workspaces/tides/rollback", data=form(number=4))
    assert (answer.status_code, answer.headers["location"]) == (303, PAGE)
    assert "Generation 4 current" in words_of(http.get(PAGE).text)
    assert http.post("/workspaces/tides/pin", data=form(number=2)).headers["location"] == PAGE
    found = rows(http.get(PAGE).text)
    assert "Generation 2 current pinned" in words_of(found[2])
    assert buttons(found[2]) == ["Unpin"]
    assert buttons(found[4]) == ["Pin to it"], "what is pinned is not rolled back"
    assert http.post("/workspaces/tides/unpin", data=form()).status_code == 303
    assert studio.asked == [("rollback 4", "tides"), ("pin 2", "tides"), ("pin None", "tides")]


def test_htmx_gets_the_piece_that_changed(http: httpx2.Client) -> None:
    moved = http.post("/workspaces/tides/rollback", data={"number": 4}, headers=HTMX).text
    assert moved.strip().startswith('<div id="generations-id-tides"')
    assert "Generation 4 current" in words_of(moved)
    renewed = http.post("/workspaces/tides/update", headers=HTMX).text
    assert renewed.strip().startswith('<div class="renewal" id="renewal-id-tides"')
    assert "A new environment is being built resolving 26 packages" in words_of(renewed)
    assert "Give up" in renewed
    given_up = http.post("/workspaces/tides/cancel-build", headers=HTMX).text
    assert "Update packages" in given_up
    assert "<html" not in moved + renewed + given_up


def test_what_is_refused_is_told(http: httpx2.Client, studio: FakeStudio) -> None:
    bad = http.post("/workspaces/tides/rollback", data=form(number=3))
    assert bad.status_code == 409
    assert "Generation 3 is marked bad" in bad.text
    studio.refusal = Conflict(Problem("pinned", "tides is pinned to generation 5"))
    assert http.post("/workspaces/tides/update", headers=HTMX).status_code == 409
    assert http.post("/workspaces/tides/rollback", data={"number": 4}).status_code == 403, "the token is asked for"
    assert http.post("/workspaces/tides/rollback", data=form(number="four")).status_code == 422
    assert studio.asked == []


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("", "Added 1 zarr 3.2.0 MIT Removed 1 bottleneck 1.6.0 BSD-2-Clause Changed 3 numpy 2.4.1 → to 2.4.2"),
        ("", "polars 1.36.0 → to 1.38.0 Apache-2.0 → to MIT"),
        ("?before=5&after=6", "Added 1 bottleneck 1.6.0 BSD-2-Clause"),
        ("?before=6&after=5", "Removed 1 bottleneck 1.6.0 BSD-2-Clause"),
        ("?before=5&after=now", "Added 3 patsy 1.0.2 seaborn 0.13.2 statsmodels 0.14.6"),
        ("?generation=4", "Changed 3 numpy 2.3.5 → to 2.4.1"),
        ("?before=5&after=5", "Choose two that differ."),
        ("?generation=1", "Choose two that differ."),
    ],
)
def test_two_generations_are_compared(http: httpx2.Client, query: str, told: str) -> None:
    answer = http.get(f"{PAGE}{query}")
    assert answer.status_code == 200
    assert told in words_of(answer.text)


def test_numbers_that_are_none_are_said_to_be_so(http: httpx2.Client) -> None:
    assert http.get(f"{PAGE}?generation=99").status_code == 404
    assert http.get(f"{PAGE}?before=5&after=98").status_code == 404
    assert http.get(f"{PAGE}?after=soon").status_code == 422
    assert http.get(f"{PAGE}?generation=-1").status_code == 422
    assert http.get(f"{PAGE}/log?generation=99").status_code == 404


def test_packages_are_found_without_scripts(http: httpx2.Client) -> None:
    page = http.get(f"{PAGE}?q=%20PyArr&generation=2").text
    all_of_it = page.split('id="contents"')[1].split("</ul>")[0]
    assert re.findall(r'<li data-words="(\S+)[^"]*" >', all_of_it) == ["pyarrow"]
    assert all_of_it.count("hidden>") == 23, "the rest is there for who goes on typing"
    assert "1 of 24 packages" in words_of(page)
    assert "0 of 25 packages" in words_of(http.get(f"{PAGE}?q=no-such").text)
    assert "1 of 25 packages" in words_of(http.get(f"{PAGE}?q=bsd-2").text)


def test_what_is_known_of_one_is_told(http: httpx2.Client) -> None:
    told = words_of(http.get(PAGE).text)
    for fact in (
        "uv.lock 5a9e5a9e5a9e",
        "uv, Python 3.12.8, for linux-x86_64",
        "Kernel starts",
        "torch no such module",
    ):
        assert fact in told
    assert "Kernel does not start" in words_of(http.get(f"{PAGE}?generation=3").text)


def test_downloads_are_files(http: httpx2.Client) -> None:
    page = http.get(f"{PAGE}?generation=1").text
    links = re.findall(r'href="([^"]+)" download', page)
    assert len(links) == 5
    for link in links:
        answer = http.get(html.unescape(link))
        assert answer.status_code == 200
        assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''")
    bom = http.get(f"{PAGE}/sbom?generation=1")
    assert len(json.loads(bom.text)["components"]) == 23
    assert bom.headers["content-type"] == "application/vnd.cyclonedx+json"
    one = http.get(f"{PAGE}/export/requirements?generation=1")
    assert one.headers["content-disposition"].endswith("''requirements.txt")
    assert "numpy==2.3.5" in one.text
    several = zipfile.ZipFile(io.BytesIO(http.get(f"{PAGE}/export/dockerfile").content))
    assert several.namelist() == ["Dockerfile", "requirements.txt"]


def test_only_what_a_kind_can_write_is_offered(http: httpx2.Client, studio: FakeStudio) -> None:
    studio.environments.lines["tides"] = [a_generation(1, contents(), current=True, exports=("flake",))]
    page = http.get(PAGE).text
    assert "Nix flake" in page
    assert "pylock" not in page


def test_what_was_installed_by_hand_is_adopted(http: httpx2.Client, studio: FakeStudio) -> None:
    page = http.get(PAGE).text
    assert re.findall(r'name="packages" value="(\w+)"', page) == ["seaborn", "statsmodels"]
    told = words_of(page)
    assert "patsy 1.0.2 came along" in told
    assert "black 26.1.0 for another Python, not in use" in told
    answer = http.post("/workspaces/tides/adopt", data=form(packages=["seaborn", "statsmodels"]))
    assert answer.headers["location"] == PAGE
    none = http.post("/workspaces/tides/adopt", data=form())
    assert none.status_code == 422
    assert "No package was chosen" in none.text
    assert studio.asked == [("adopt seaborn statsmodels", "tides")]


def test_rescue_is_offered_where_it_failed(http: httpx2.Client, studio: FakeStudio) -> None:
    assert "Start in rescue mode" in http.get("/workspaces/census").text
    assert "Start in rescue mode" not in http.get("/workspaces/tides").text
    assert http.post("/workspaces/census/rescue", data=form()).headers["location"] == "/workspaces/census"
    assert 'id="head-id-tides"' in http.post("/workspaces/tides/rescue", data={}, headers=HTMX).text
    assert studio.asked == [("rescue", "census"), ("rescue", "tides")]


def test_trouble_is_told_on_each_page_and_once(http: httpx2.Client, studio: FakeStudio) -> None:
    message = "Cartopy 0.26.0 could not be built"
    for part in ("", "/environment", "/logs"):
        told = words_of(http.get(f"/workspaces/moraine{part}").text)
        assert told.count(message) == 1
        assert "The one before stays in use" in told
    assert "geos_c.h: No such file" in http.get("/workspaces/moraine/environment").text
    moraine = studio.found["moraine"]
    note = f"the environment stays on generation 1: {moraine.trouble.message}"  # type: ignore[union-attr]
    studio.found["moraine"] = moraine.model_copy(update={"notes": (note, "the home is nearly full")})
    told = words_of(http.get("/workspaces/moraine").text)
    assert "The home is nearly full" in told
    assert told.lower().count(message.lower()) == 1
    studio.found["moraine"] = moraine.model_copy(update={"phase": "failed", "reason": moraine.trouble})
    assert words_of(http.get("/workspaces/moraine").text).count(message) == 1


def test_a_build_beside_what_runs_is_told(http: httpx2.Client, studio: FakeStudio) -> None:
    studio.environments.renewing("tides", "update", progress="installing zarr, 3 of 9")
    assert "New environment : installing zarr, 3 of 9" in words_of(http.get("/workspaces/tides").text)
    assert "installing zarr, 3 of 9" in words_of(http.get(f"{PAGE}/log").text)


def test_a_workspace_that_has_none_yet_says_so(http: httpx2.Client) -> None:
    page = http.get("/workspaces/glacier-melt/environment")
    assert page.status_code == 200
    assert "There is none yet" in page.text
    assert "Give up" in page.text
    assert "Nothing is written yet." in http.get("/workspaces/census/environment/log").text


def test_one_that_cannot_be_read_keeps_nobody_from_the_others(http: httpx2.Client, studio: FakeStudio) -> None:
    studio.environments.lost = {4}
    page = http.get(PAGE)
    assert page.status_code == 200
    assert "The lock of generation 4 is not known" in page.text
    assert "25 of 25 packages" in words_of(page.text)


def test_of_many_the_latest_are_shown_and_those_in_use(http: httpx2.Client, studio: FakeStudio) -> None:
    studio.environments.lines["tides"] = [
        a_generation(number, contents(), current=number == 3, pinned=number == 2) for number in range(1, 31)
    ]
    assert list(rows(http.get(PAGE).text)) == [*range(30, 22, -1), 3, 2]
    assert "20 earlier" in http.get(PAGE).text
    assert len(rows(http.get(f"{PAGE}?earlier=true").text)) == 30
    assert len(rows(http.get("/fragments/generations/id-tides?earlier=true", headers=HTMX).text)) == 30


def test_a_piece_of_what_is_gone_is_nothing(http: httpx2.Client, studio: FakeStudio) -> None:
    del studio.found["tides"]
    for piece in ("generations", "renewal"):
        answer = http.get(f"/fragments/{piece}/id-tides", headers=HTMX)
        assert (answer.status_code, answer.text.strip()) == (200, "")


def test_a_log_is_streamed_to_its_end(http: httpx2.Client) -> None:
    page = http.get(f"{PAGE}/log").text
    assert "Prepared 3 packages" in page
    assert "\x1b" not in page
    assert re.search(r'id="log-end" role="status" >The build has ended', page)
    with http.stream("GET", f"{PAGE}/log/stream") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        text = "\n".join(stream.iter_lines())
    assert '["Resolved 26 packages in 12ms", "Prepared 3 packages in 1.2s"]' in text
    assert text.rstrip().endswith("event: end\ndata:")
    assert "built generation 2" in http.get(f"{PAGE}/log?generation=2").text
    assert http.get("/workspaces/nobody/environment/log/stream").status_code == 404


def test_hostile_words_stay_words(http: httpx2.Client, studio: FakeStudio) -> None:
    evil = '"><script>alert(1)</script>'
    bad = Package(name=evil, version=evil, licence=evil)
    line = [
        a_generation(1, [bad], by=evil, source=evil, reason=evil, state="bad", interpreter=evil),
        a_generation(
            2, [*contents(), bad], current=True, inputs={evil: evil}, kernel=evil, preload={evil: evil}, notes=(evil,),
            platform=evil, kind=evil, builder=evil, exports=(evil,), id=evil, source=evil,
        ),
    ]  # fmt: skip
    reason = Reason(code="bad", message=evil, hint=evil, log=(evil,))
    studio.found["tides"] = a_workspace("tides", "running", trouble=reason, environment=evil, notes=(evil,))
    studio.environments.lines["tides"] = line
    studio.environments.by_hand["tides"] = tuple(
        OverlayPackage(name=evil, version=evil, requested=wanted, active=active)
        for wanted, active in ((True, True), (False, True), (True, False))
    )
    studio.environments.written["tides"] = [evil]
    for path in (
        "",
        "?before=1&after=2",
        "?before=2&after=now",
        "?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E",
        "/log",
    ):
        page = http.get(f"{PAGE}{path}")
        assert page.status_code == 200
        assert "<script>alert" not in page.text
    studio.environments.renewing("tides", "update", progress=evil)
    assert "<script>alert" not in http.get(PAGE).text
    assert "<script>alert" not in http.get(f"{PAGE}?after=%3Cscript%3Ealert(1)").text
