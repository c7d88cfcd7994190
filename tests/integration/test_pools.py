"""Ready pools, in a whole installation: spares are made, kept, handed over and removed; nobody else sees them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from installation import Installation, echo, left_behind, until
from studiolo.problem import NotFound
from studiolo.resources import Pool, Workspace


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Installation]:
    installation = Installation(tmp_path / "house")
    installation.up()
    try:
        yield installation
    finally:
        installation.down()
        assert left_behind(installation.home) == []


def board(warm: int, **more: Any) -> dict[str, Any]:
    return {"apps": [echo()], "warm": warm, **more}


def spares(house: Installation) -> dict[str, str]:
    """Straight from the store: id -> phase."""
    with closing(sqlite3.connect(house.layout.database)) as store:
        return dict(store.execute("SELECT id, phase FROM workspaces WHERE spare IS NOT NULL"))


def filled(house: Installation, name: str, count: int) -> Pool:
    """Wait until the pool of this workspace holds as many, and they answer."""

    def look() -> Pool | None:
        pool = house.workspace(name).pool
        assert pool is not None
        full = pool.ready == pool.wanted == count and list(spares(house).values()) == ["running"] * count
        return pool if full else None

    found: Pool = until(look, 90, f"a pool of {count}")
    return found


def answer(house: Installation, name: str) -> str:
    """The process id that the app of this workspace answers with."""
    return house.get(house.token(name)).raise_for_status().text


def taken(house: Installation, made: Workspace) -> bool:
    with house.client() as client:
        return "kept ready" in next(event.message for event in client.history(made.id) if event.kind == "created")


def test_a_workspace_takes_over_a_start_that_was_kept_ready(house: Installation) -> None:
    first = house.make(board(1), name="first")
    assert not taken(house, first)
    house.phase("first", "running")
    pool = filled(house, "first", 1)
    assert pool.reason == ""
    (spare,) = spares(house)
    second = house.make(board(1), name="second")
    assert (second.id, second.phase, [app.state for app in second.apps]) == (spare, "running", ["ready"])
    assert taken(house, second)
    assert answer(house, "second") != answer(house, "first")
    assert second.apps[0].url.startswith("http://echo--second--")
    # the next is made, and is another
    filled(house, "first", 1)
    assert spare not in spares(house)


def test_nobody_sees_or_reaches_a_spare(house: Installation) -> None:
    house.make(board(1), name="first")
    filled(house, "first", 1)
    (spare,) = spares(house)
    with house.client() as client:
        assert [each.name for each in client.workspaces()] == ["first"]
        assert client.status().workspaces == {"running": 1}
        for ref in (spare, f"spare--{spare}"):
            with pytest.raises(NotFound):
                client.workspace(ref)
            with pytest.raises(NotFound):
                client.token(ref)
        told = [event.workspace for event in client.events(after=0, quiet=0.5)]
        uses = until(lambda: [use for use in client.machine().uses if use.spare], 30, "its use of memory")
    assert spare not in told
    assert [use.workspace for use in uses] == ["first"]
    assert uses[0].memory > 0
    assert (house.layout.app_sockets(spare) / "echo.sock").exists()
    routes = [each.readlink() for each in house.layout.grants.rglob("*") if each.is_symlink()]
    assert [route for route in routes if spare in str(route)] == []
    host = f"echo--spare--{spare}--{house.workspace('first').owner}.localhost:{house.port}"
    assert house.request("GET", None, "/", host=host).status_code == 421


def test_two_made_at_once_never_get_the_same(house: Installation) -> None:
    house.make(board(2), name="first")
    filled(house, "first", 2)
    ready = set(spares(house))
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda name: house.make(board(2), name=name), ["a", "b", "c", "d"]))
    assert len({each.id for each in made}) == 4
    assert {each.id for each in made if taken(house, each)} == ready
    for name in ("a", "b", "c", "d"):
        house.phase(name, "running")
    assert len({answer(house, name) for name in ("a", "b", "c", "d")}) == 4


def test_spares_outlive_the_control_plane(house: Installation) -> None:
    house.make(board(1), name="first")
    filled(house, "first", 1)
    (spare,) = spares(house)
    processes = left_behind(house.home)
    house.kill("control")
    house.up()
    filled(house, "first", 1)
    assert set(spares(house)) == {spare}
    second = house.make(board(1), name="second")
    assert (second.id, second.phase) == (spare, "running")
    assert len(processes) > 0
    assert answer(house, "second")


def test_a_control_plane_killed_while_a_spare_is_made_leaks_nothing(house: Installation) -> None:
    house.make(board(2), name="first")
    until(lambda: spares(house), 30, "a spare on its way")
    house.kill("control")
    house.up()
    filled(house, "first", 2)
    homes = {each.name for each in (house.home / "workspaces").iterdir()}
    assert homes == {house.workspace("first").id, *spares(house)}


def test_another_document_has_other_spares(house: Installation) -> None:
    house.make(board(1), name="first")
    filled(house, "first", 1)
    (before,) = spares(house)
    changed = board(1, env={"YEAR": "2026"})
    assert not taken(house, house.make(changed, name="other"))
    house.make(changed, name="first", replace=True)
    until(lambda: before not in spares(house), 30, "the end of the spare of the former document")
    until(lambda: not (house.home / "workspaces" / before).exists(), 30, "the end of its home")
    filled(house, "first", 1)
    third = house.make(changed, name="third")
    assert taken(house, third)
    assert "2026" in house.run("exec", "third", "--", "printenv", "YEAR").stdout


def test_how_many_are_kept_is_changed_without_a_restart_and_the_last_workspace_takes_the_pool_along(
    house: Installation,
) -> None:
    house.make(board(2), name="first")
    filled(house, "first", 2)
    process = answer(house, "first")
    house.make(board(1), name="first", replace=True)
    filled(house, "first", 1)
    assert answer(house, "first") == process
    second = house.make(board(0), name="second")
    assert taken(house, second)
    filled(house, "first", 1)
    house.run("rm", "first", "--purge", "--yes")
    until(lambda: not spares(house), 30, "the end of the pool")
    until(lambda: {each.name for each in (house.home / "workspaces").iterdir()} == {second.id}, 30, "the homes' end")
    assert house.workspace("second").phase == "running"


def test_a_spare_that_fails_says_why_and_is_no_workspace(house: Installation) -> None:
    document = {"apps": [echo("broken", command=["/bin/sh", "-c", "echo no luck >&2; exit 3", "{port}"])], "warm": 1}
    house.make(document, name="first")
    house.phase("first", "failed")
    reason = until(lambda: (pool := house.workspace("first").pool) and "tried again" in pool.reason and pool.reason, 90)
    assert "no luck" in reason
    assert list(spares(house).values()) == ["failed"]
    again = house.make(document, name="again")
    assert again.id not in spares(house)
    with house.client() as client:
        assert [each.name for each in client.workspaces()] == ["again", "first"]


def test_setup_is_done_ahead(house: Installation) -> None:
    document = board(1, setup=["echo done > $HOME/prepared"])
    house.make(document, name="first")
    filled(house, "first", 1)
    (spare,) = spares(house)
    until((house.layout.workspace_home(spare) / "prepared").exists, 30, "setup")

    def prepared() -> bool:
        with closing(sqlite3.connect(house.layout.database)) as store:
            return bool(store.execute("SELECT prepared FROM workspaces WHERE id = ?", (spare,)).fetchone()[0])

    until(prepared, 30, "the word that setup is done")
    second = house.make(document, name="second")
    assert (second.id, taken(house, second)) == (spare, True)
    assert house.run("exec", "second", "--", "cat", "prepared").stdout.strip() == "done"


def test_an_environment_that_was_renewed_is_no_longer_kept_ready(house: Installation) -> None:
    house.make(board(1), name="first")
    house.make({"apps": [echo()], "environment": {"packages": ["six"]}}, name="renewed")
    house.phase("renewed", "running")
    filled(house, "first", 1)
    (spare,) = spares(house)
    before, after = house.workspace("first").generation, house.workspace("renewed").generation
    # as after `studiolo env update` in another workspace: the same request leads to another lock from now on
    with closing(sqlite3.connect(house.layout.database)) as store:
        store.execute("UPDATE locked_requests SET lock = ? WHERE lock = ?", (after, before))
        store.commit()
    house.make(board(1), name="second")
    second = house.phase("second", "running")
    assert (second.id != spare, second.generation) == (True, after)
    until(lambda: spare not in spares(house), 30, "the end of the one with the former environment")
    filled(house, "first", 1)
    third = house.make(board(1), name="third")
    assert (taken(house, third), third.generation) == (True, after)


def test_down_ends_them_and_their_homes_and_up_makes_new_ones(house: Installation) -> None:
    house.make(board(1), name="first")
    filled(house, "first", 1)
    (spare,) = spares(house)
    house.down()
    assert left_behind(house.home) == []
    assert spares(house) == {}
    assert not (house.home / "workspaces" / spare).exists()
    house.up()
    filled(house, "first", 1)


def test_a_folder_of_the_host_has_no_pool_and_says_why(house: Installation, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    made = house.make(board(1), name="first", repository=str(folder))
    assert made.pool is not None
    assert (made.pool.wanted, made.pool.ready) == (1, 0)
    assert "folder of this machine" in made.pool.reason
