"""The decision, driven by random worlds: whatever happens, it ends where it should and stays there."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from studiolo.control import decide
from studiolo.control.decide import Desired, Observed, Runtime, next_step
from studiolo.resources import Phase

PHASES: tuple[Phase, ...] = (
    "pending", "building", "starting", "running", "stopping", "stopped", "failed", "deleting",
)  # fmt: skip
STATES: tuple[decide.AppState, ...] = ("starting", "ready", "restarting", "failed", "stopped")
APPS = ("lab", "code")

runtimes = st.none() | st.builds(
    Runtime,
    run=st.sampled_from(["one", "two"]),
    apps=st.dictionaries(st.sampled_from(APPS), st.sampled_from(STATES)),
    stopping=st.booleans(),
)
observations = st.builds(
    Observed,
    phase=st.sampled_from(PHASES),
    runtime=runtimes,
    built=st.booleans(),
    startable=st.frozensets(st.sampled_from(APPS)),
    starts=st.integers(0, decide.STARTS_PER_RUN),
    relock=st.booleans(),
)
targets: st.SearchStrategy[decide.Target] = st.sampled_from(["running", "stopped", "deleted"])


@given(observations)
def test_what_is_not_wanted_is_stopped_first(observed: Observed) -> None:
    for target in ("stopped", "deleted"):
        step = next_step(Desired(target, "one"), observed)
        assert (step == decide.Stop()) == (observed.runtime is not None)


@given(observations, targets)
def test_a_foreign_run_goes_on_until_what_replaces_it_is_built(observed: Observed, target: decide.Target) -> None:
    if observed.runtime is not None and observed.runtime.run != "one":
        step = next_step(Desired(target, "one"), observed)
        waits = target == "running" and observed.phase != "failed" and not observed.runtime.stopping
        ready = observed.built and observed.startable and not observed.relock
        assert step == (decide.Build() if waits and not ready else decide.Stop())


@given(observations)
def test_an_environment_is_looked_at_anew_before_anything_starts(observed: Observed) -> None:
    if observed.relock:
        assert not isinstance(next_step(Desired("running", "one"), observed), decide.Start | decide.Ready)
        if observed.runtime is None:
            assert next_step(Desired("stopped", "one"), observed) == decide.Build()


@given(observations)
def test_nothing_starts_without_environment_and_tools(observed: Observed) -> None:
    step = next_step(Desired("running", "one"), observed)
    if isinstance(step, decide.Start):
        assert observed.built
        assert step.apps
        assert step.apps <= observed.startable
        assert observed.runtime is None or not step.apps & observed.runtime.apps.keys()


@given(observations)
def test_failed_stays_failed_until_asked_again(observed: Observed) -> None:
    if observed.phase == "failed" and observed.runtime is None:
        assert next_step(Desired("running", "one"), observed) == decide.Wait()


@given(observations, targets)
def test_removal_only_where_nothing_runs(observed: Observed, target: decide.Target) -> None:
    step = next_step(Desired(target, "one"), observed)
    if isinstance(step, decide.Remove):
        assert target == "deleted"
        assert observed.runtime is None


class World(RuleBasedStateMachine):
    """A workspace, its backend, people who change their minds, and accidents. Steps are carried out as the real shell
    does, and may be lost half-way."""

    @initialize()
    def begin(self) -> None:
        self.desired = Desired("running", "run-0")
        self.runs = 0
        self.phase: Phase = "pending"
        self.runtime: Runtime | None = None
        self.built = False
        self.tools: set[str] = {"lab"}
        self.starts = 0
        self.relock = False
        self.removed = False

    def observed(self) -> Observed:
        return Observed(self.phase, self.runtime, self.built, frozenset(self.tools), self.starts, self.relock)

    def carry_out(self, step: decide.Step) -> None:
        match step:
            case decide.Build():
                self.phase, self.built, self.relock = "building", True, False
            case decide.Start(apps):
                if self.runtime is None:
                    self.starts += 1
                    self.phase = "starting"
                known = dict(self.runtime.apps) if self.runtime else {}
                self.runtime = Runtime(self.desired.run, known | dict.fromkeys(apps, "starting"))
            case decide.Ready():
                self.phase = "running"
            case decide.Fail():
                self.phase = "failed"
            case decide.Stop():
                self.phase = self.phase if self.phase == "failed" else "stopping"
                self.runtime = None
            case decide.Stopped():
                self.phase = "stopped"
            case decide.Remove():
                self.removed = True

    def settle(self) -> None:
        """Without accidents it comes to rest in a few steps."""
        for _ in range(12):
            if self.removed:
                return
            if self.runtime is not None:
                apps = {name: "ready" if state == "starting" else state for name, state in self.runtime.apps.items()}
                self.runtime = Runtime(self.runtime.run, apps)
            step = next_step(self.desired, self.observed())
            if step == decide.Wait():
                return
            self.carry_out(step)
        raise AssertionError(f"does not come to rest: {self.desired} {self.observed()}")

    @rule(target_=targets)
    def somebody_wants(self, target_: decide.Target) -> None:
        if self.desired.target == "deleted":
            return
        if target_ == "running":
            self.runs += 1
            self.starts = 0
            self.phase = "pending"
            self.desired = Desired("running", f"run-{self.runs}")
        else:
            self.desired = Desired(target_, self.desired.run)

    @rule()
    def somebody_wants_newer_packages(self) -> None:
        self.relock = True

    @precondition(lambda self: not self.removed)
    @rule()
    def one_step(self) -> None:
        self.carry_out(next_step(self.desired, self.observed()))

    @precondition(lambda self: not self.removed)
    @rule()
    def the_machine_reboots(self) -> None:
        self.runtime = None

    @precondition(lambda self: not self.removed and self.runtime is not None)
    @rule(app=st.sampled_from(APPS), state=st.sampled_from(STATES))
    def an_app_changes(self, app: str, state: decide.AppState) -> None:
        assert self.runtime is not None
        if app in self.runtime.apps:
            self.runtime = Runtime(self.runtime.run, {**self.runtime.apps, app: state})

    @precondition(lambda self: not self.removed)
    @rule()
    def tools_arrive(self) -> None:
        self.tools = set(APPS)

    @invariant()
    def it_can_always_come_to_rest(self) -> None:
        if not hasattr(self, "desired"):
            return
        kept = (self.phase, self.runtime, self.built, self.starts, self.removed)
        self.settle()
        if self.desired.target == "deleted":
            assert self.removed
        elif self.desired.target == "stopped":
            assert self.runtime is None
            assert self.phase in ("stopped", "failed")
        elif self.runtime is not None:
            assert self.runtime.run == self.desired.run
            assert self.phase in ("running", "pending", "starting", "building", "stopping")
        else:
            assert self.phase == "failed"
        self.phase, self.runtime, self.built, self.starts, self.removed = kept


TestWorld = World.TestCase
TestWorld.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
