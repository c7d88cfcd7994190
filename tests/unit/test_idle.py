"""Evidence and idleness, without a clock."""

from __future__ import annotations

from studiolo.control.idle import Evidence, explain, is_idle, look


def test_the_first_look_counts_as_activity() -> None:
    watch = look(None, "run", Evidence(), now=100)
    assert not is_idle(watch, after=60, now=159)
    assert is_idle(watch, after=60, now=160)


def test_never_is_never() -> None:
    assert not is_idle(look(None, "run", Evidence(), now=0), after=None, now=1e9)


def test_busy_and_unknown_count_as_activity() -> None:
    for evidence in (Evidence(busy=["a kernel is busy"]), Evidence(unknown=["jupyterlab did not say"])):
        watch = look(look(None, "run", Evidence(), now=0), "run", evidence, now=50)
        assert watch.active_at == 50
        assert not is_idle(watch, after=60, now=100)


def test_a_stamp_counts_when_it_moves_whichever_way_the_clock_went() -> None:
    watch = look(None, "run", Evidence(stamps={"lab": 1000.0}), now=0)
    same = look(watch, "run", Evidence(stamps={"lab": 1000.0}), now=10)
    assert same.active_at == 0
    back = look(same, "run", Evidence(stamps={"lab": 400.0}), now=20)
    assert back.active_at == 20
    assert "lab" in back.why


def test_a_new_run_starts_afresh() -> None:
    watch = look(None, "one", Evidence(), now=0)
    assert look(watch, "two", Evidence(), now=500).active_at == 500


def test_the_explanation_names_the_last_sign_of_life() -> None:
    watch = look(look(None, "r", Evidence(), 0), "r", Evidence(busy=["a kernel is busy"]), 60)
    assert explain(watch, 60 + 2 * 3600 + 300) == "unused for 2h 5m; last sign of life: a kernel is busy"
