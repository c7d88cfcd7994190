"""Which starts are kept ready: pure, on invented spares."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from studiolo.control.pool import (
    OLDEST,
    RESERVE,
    SHORT,
    Plan,
    Spare,
    State,
    Wanted,
    next_try,
    plan,
    pool_of,
    refusal,
)
from studiolo.spec.document import App, Idle, Resolved

PLENTY = 64 << 30
NOW = 1_000_000.0
STATES: tuple[State, ...] = ("coming", "ready", "failed")

wishes = st.dictionaries(st.sampled_from("abc"), st.builds(Wanted, st.integers(0, 3), st.just(100 << 20)))
spares = st.lists(
    st.builds(
        Spare,
        id=st.integers(0, 99).map(str),
        pool=st.sampled_from("abcd"),
        state=st.sampled_from(STATES),
        made=st.floats(NOW - 2 * OLDEST, NOW),
        failed=st.floats(NOW - 2 * OLDEST, NOW),
        outdated=st.booleans(),
    ),
    max_size=8,
    unique_by=lambda each: each.id,
)


def ready(name: str, pool: str = "a", made: float = NOW, **more: bool) -> Spare:
    return Spare(name, pool, "ready", made, **more)


def resolved(name: str = "demo", **more: object) -> Resolved:
    board = App(name="board", command=("board", "{port}"))
    return Resolved.model_validate({"name": name, "apps": (board,), **more})


def test_an_empty_pool_gets_one_spare_at_a_time() -> None:
    wanted = {"a": Wanted(2, 0)}
    assert plan(wanted, [], PLENTY, NOW) == Plan(make="a")
    assert plan(wanted, [Spare("1", "a", "coming", NOW)], PLENTY, NOW) == Plan()
    assert plan(wanted, [ready("1")], PLENTY, NOW) == Plan(make="a")
    assert plan(wanted, [ready("1"), ready("2")], PLENTY, NOW) == Plan()


def test_the_emptiest_pool_comes_first() -> None:
    assert plan({"a": Wanted(3, 0), "b": Wanted(3, 0)}, [ready("1")], PLENTY, NOW).make == "b"


def test_what_nobody_wants_goes() -> None:
    assert plan({}, [ready("1")], PLENTY, NOW) == Plan(remove=("1",))


def test_of_too_many_the_ones_that_answer_stay() -> None:
    there = [Spare("1", "a", "failed", NOW, NOW), Spare("2", "a", "coming", NOW), ready("3"), ready("4", made=NOW - 9)]
    assert plan({"a": Wanted(1, 0)}, there, PLENTY, NOW).remove == ("3", "2", "1")


def test_one_that_is_old_or_outdated_is_replaced() -> None:
    for spare in (ready("1", made=NOW - OLDEST - 1), ready("1", outdated=True)):
        assert plan({"a": Wanted(1, 0)}, [spare], PLENTY, NOW) == Plan(make="a", remove=("1",))


def test_none_is_made_that_would_leave_too_little_memory() -> None:
    wanted = {"a": Wanted(1, 300 << 20)}
    assert plan(wanted, [], RESERVE + (300 << 20) - 1, NOW) == Plan()
    assert plan(wanted, [], RESERVE + (300 << 20), NOW) == Plan(make="a")


def test_where_memory_is_short_they_end_one_by_one_the_newest_first() -> None:
    there = [ready("1", made=NOW - 2), ready("2", made=NOW - 1)]
    assert plan({"a": Wanted(2, 0)}, there, SHORT - 1, NOW) == Plan(remove=("2",))
    assert plan({"a": Wanted(2, 0)}, there, SHORT, NOW) == Plan()


def test_one_that_failed_is_tried_again_after_as_long_as_it_has_been_failing() -> None:
    assert next_try(Spare("1", "a", "failed", made=0, failed=5)) == 5 + 60
    assert next_try(Spare("1", "a", "failed", made=0, failed=500)) == 500 + 500
    assert next_try(Spare("1", "a", "failed", made=0, failed=50_000)) == 50_000 + 3600


def test_a_failed_one_holds_its_place_until_then() -> None:
    failed = Spare("1", "a", "failed", made=NOW - 100, failed=NOW - 50)
    assert plan({"a": Wanted(2, 0)}, [failed], PLENTY, NOW) == Plan()
    assert plan({"a": Wanted(2, 0)}, [failed], PLENTY, NOW + 20) == Plan(retry=("1",))


@given(wishes, spares, st.integers(0, PLENTY))
def test_a_plan_contradicts_neither_itself_nor_the_machine(
    wanted: dict[str, Wanted], there: list[Spare], available: int
) -> None:
    step = plan(wanted, there, available, NOW)
    kept = [each for each in there if each.id not in step.remove]
    assert not set(step.retry) & set(step.remove)
    assert {each.pool for each in kept} <= set(wanted)
    for pool, wish in wanted.items():
        count = sum(each.pool == pool for each in kept) + (step.make == pool)
        assert count <= wish.spares
    if step.make is not None:
        assert available >= RESERVE + wanted[step.make].memory


@given(wishes, spares)
def test_it_comes_to_rest(wanted: dict[str, Wanted], there: list[Spare]) -> None:
    """With memory enough and nothing that fails, every pool is filled, and then nothing changes any more."""
    there = [dataclasses.replace(each, state="ready") for each in there]
    for number in range(30):
        step = plan(wanted, there, PLENTY, NOW)
        there = [each for each in there if each.id not in step.remove]
        there += [ready(f"new-{number}", step.make)] if step.make else []
    assert plan(wanted, there, PLENTY, NOW) == Plan()
    assert {pool: sum(each.pool == pool for each in there) for pool in wanted} == {
        pool: wish.spares for pool, wish in wanted.items()
    }


def test_what_it_is_called_and_when_it_stops_makes_no_other_pool() -> None:
    one = pool_of("ada", "local", resolved("one"))
    assert pool_of("ada", "local", resolved("two", idle=Idle(after=60.0), warm=3)) == one


def test_another_account_backend_or_start_has_another_pool() -> None:
    document = resolved()
    others = [
        pool_of("bob", "local", document),
        pool_of("ada", "pods", document),
        pool_of("ada", "local", resolved(env={"YEAR": "2026"})),
        pool_of("ada", "local", resolved(setup=("make",))),
    ]
    assert len({pool_of("ada", "local", document), *others}) == 5


def test_a_folder_of_the_host_is_not_read_ahead() -> None:
    assert "folder of this machine" in (refusal(resolved(repository="/srv/board")) or "")
    assert refusal(resolved(repository="https://example.org/board.git")) is None
    assert refusal(resolved()) is None
