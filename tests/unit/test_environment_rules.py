"""What is decided about environments without looking anywhere: what is kept, adopted, chosen, written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studiolo.control.adoption import adopt
from studiolo.control.collect import roots
from studiolo.control.renewal import Relock, choose, digest_of
from studiolo.environments.kind import Upgrade
from studiolo.environments.overlay import OverlayPackage
from studiolo.problem import Conflict, NotFound
from studiolo.spec.builtin import builtin_blocks
from studiolo.spec.document import Environment, Resolved
from studiolo.spec.edit import add_packages
from studiolo.spec.load import check_workspace
from studiolo.spec.resolve import resolve
from studiolo.store.tables import NumberedGenerationRow


def row(of: str, number: int, state: str = "good", scope: str = "workspace") -> NumberedGenerationRow:
    return NumberedGenerationRow(scope=scope, of=of, number=number, generation=f"{of}{number}", state=state)


def test_what_is_in_use_pinned_or_among_the_latest_is_kept() -> None:
    rows = [*(row("a", number) for number in range(1, 7)), row("a", 7, "bad"), row("t", 1, scope="template")]
    kept = roots(rows, {"a": ("a1", 2), "b": (None, None)}, keep=2)
    assert kept == {"a1", "a2", "a5", "a6", "t1"}
    assert roots(rows, {"a": ("a1", None)}, keep=0) == {"a1"}


@given(st.lists(st.sampled_from(["good", "bad", "left"]), max_size=8), st.integers(0, 4), st.integers(0, 7))
def test_the_generation_in_use_is_always_kept(states: list[str], keep: int, current: int) -> None:
    rows = [row("a", number, state) for number, state in enumerate(states, start=1)]
    assert f"a{current}" in roots(rows, {"a": (f"a{current}", None)}, keep)


def installed(name: str, version: str = "1", *, requested: bool = True, active: bool = True) -> OverlayPackage:
    return OverlayPackage(name, version, requested, "3.11", active)


def document(**environment: Any) -> Resolved:
    checked = check_workspace({"environment": environment}, {})
    return resolve(checked, builtin_blocks(), name="room", repository=None)


def test_what_was_asked_for_by_name_is_adopted() -> None:
    there = (installed("Polars", "1.2"), installed("numpy", requested=False), installed("old", active=False))
    found = adopt(document(packages=["polars>=1", "six"]), there, ())
    assert found.requirements == ("Polars==1.2",)
    assert found.names == ("polars",)
    assert found.document.environment.packages == ("six", "Polars==1.2")
    assert adopt(document(), there, ("NumPy",)).requirements == ("numpy==1",)


def test_what_was_not_installed_cannot_be_adopted() -> None:
    with pytest.raises(NotFound, match="old was not installed"):
        adopt(document(), (installed("old", active=False),), ("old",))
    from_git = OverlayPackage("six", "1", True, "3.11", True, origin="https://example.org/six.git")
    with pytest.raises(Conflict, match="nothing was installed"):
        adopt(document(), (from_git,), ())
    with pytest.raises(Conflict, match="nothing was installed"):
        adopt(document(), (), ())
    with pytest.raises(Conflict, match="takes no packages"):
        adopt(document(image="debian:12"), (installed("six"),), ())
    with pytest.raises(Conflict, match="kind flake takes no packages"):
        adopt(document(), (installed("six"),), (), "flake")


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ({}, "flake"),
        ({"kind": "uv"}, "uv"),
        ({"image": "debian:12"}, "image"),
        ({"file": "environment.yml"}, "conda"),
        ({"file": "requirements/a.txt"}, "uv"),
        ({"file": "Dockerfile.gpu"}, "image"),
        # A flake takes nothing on top, so what does is chosen.
        ({"packages": ["six"]}, "uv"),
    ],
)
def test_which_kind_is_chosen(asked: dict[str, Any], kind: str, tmp_path: Path) -> None:
    (tmp_path / "flake.nix").write_text("{ outputs = _: { }; }\n")
    assert choose(Environment.model_validate(asked), tmp_path).kind == kind


def test_an_image_is_passed_over_where_workspaces_are_processes(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian:12\n")
    assert choose(Environment(), tmp_path).kind == "uv"


def test_a_request_is_another_when_anything_in_it_is() -> None:
    plain = digest_of("uv", Environment(), {})
    assert plain == digest_of("uv", Environment(preload=("six",)), {}), "what is imported ahead changes no lock"
    others = [
        digest_of("conda", Environment(), {}),
        digest_of("uv", Environment(packages=("six",)), {}),
        digest_of("uv", Environment(python="3.12"), {}),
        digest_of("uv", Environment(), {"requirements.txt": "0"}),
        digest_of("uv", Environment.model_validate({"indexes": ["https://example.org/simple/"]}), {}),
    ]
    assert len({plain, *others}) == 6
    private = Environment.model_validate({"indexes": [{"url": "https://example.org/simple/", "secret": "one"}]})
    assert digest_of("uv", private, {}) == others[-1], "who logs in changes nothing"


@pytest.mark.parametrize(
    "relock", [Relock(), Relock(Upgrade()), Relock(Upgrade(("six",))), Relock(number=3), Relock(adopted=("six",))]
)
def test_how_to_look_anew_survives_the_store(relock: Relock) -> None:
    assert Relock.of(relock.data) == relock


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "environment:\n  packages:\n  - six==1\n"),
        ("name: a  # mine\n", "name: a  # mine\nenvironment:\n  packages:\n  - six==1\n"),
        ("environment:\n  python: '3.12'\n", "environment:\n  python: '3.12'\n  packages:\n  - six==1\n"),
        ("environment: {packages: [polars]}\n", "environment: {packages: [polars, six==1]}\n"),
        ("environment: {packages: ['Six>=1', b]}\n", "environment: {packages: [b, six==1]}\n"),
        ("environment: data-science\n", None),
    ],
)
def test_packages_are_added_to_a_document_and_the_rest_stays(before: str, after: str | None) -> None:
    assert add_packages(before, ["six==1"]) == after
