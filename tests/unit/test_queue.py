"""The queue of starts: bounded, fair, and losing nobody."""

from __future__ import annotations

import asyncio

from studiolo.control.queue import FairQueue


async def hold(queue: FairQueue, owner: str, order: list[str], release: asyncio.Event, places: list[int]) -> None:
    async with queue.turn(owner, places.append):
        order.append(owner)
        await release.wait()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_owners_take_turns() -> None:
    queue = FairQueue(1)
    order: list[str] = []
    release = asyncio.Event()
    first = asyncio.create_task(hold(queue, "ada", order, release, []))
    await settle()
    rest = [asyncio.create_task(hold(queue, owner, order, release, [])) for owner in ["ada", "ada", "bob", "cy"]]
    await settle()
    assert order == ["ada"]
    release.set()
    await asyncio.gather(first, *rest)
    assert order == ["ada", "ada", "bob", "cy", "ada"]


async def test_slots_bound_what_runs_and_places_are_told() -> None:
    queue = FairQueue(2)
    order: list[str] = []
    release = asyncio.Event()
    places: list[list[int]] = [[] for _ in range(4)]
    tasks = [asyncio.create_task(hold(queue, f"p{n}", order, release, places[n])) for n in range(4)]
    await settle()
    assert order == ["p0", "p1"]
    assert places[2][-1] == 1
    assert places[3][-1] == 2
    release.set()
    await asyncio.gather(*tasks)


async def test_giving_up_in_the_queue_frees_the_place() -> None:
    queue = FairQueue(1)
    order: list[str] = []
    release = asyncio.Event()
    tasks = [asyncio.create_task(hold(queue, owner, order, release, [])) for owner in ["a", "b", "c"]]
    await settle()
    tasks[1].cancel()
    await asyncio.gather(tasks[1], return_exceptions=True)
    release.set()
    await asyncio.gather(tasks[0], tasks[2])
    assert order == ["a", "c"]


async def test_giving_up_just_when_admitted_loses_no_slot() -> None:
    queue = FairQueue(1)
    order: list[str] = []
    release = asyncio.Event()
    first = asyncio.create_task(hold(queue, "a", order, release, []))
    await settle()
    second = asyncio.create_task(hold(queue, "b", order, release, []))
    await settle()
    first.cancel()
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    release.set()
    async with asyncio.timeout(5):
        await hold(queue, "c", order, release, [])
    assert order[-1] == "c"
