from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from studiolo.environments.difference import Change, Difference, difference
from studiolo.environments.kind import Package


def test_added_removed_and_changed_are_sorted_by_name() -> None:
    before = (Package("zoo", "1"), Package("numpy", "1.0", "BSD"), Package("gone", "2"), Package("same", "1"))
    after = (
        Package("same", "1"),
        Package("new", "3", "MIT"),
        Package("numpy", "2.0", "BSD-3-Clause"),
        Package("a", "1"),
    )
    assert difference(before, after) == Difference(
        (Package("a", "1"), Package("new", "3", "MIT")),
        (Package("gone", "2"), Package("zoo", "1")),
        (Change("numpy", "1.0", "2.0", "BSD", "BSD-3-Clause"),),
    )


def test_names_are_one_however_they_are_written() -> None:
    assert not difference((Package("Foo_Bar", "1"),), (Package("foo-bar", "1"),))
    assert difference((Package("Foo_Bar", "1"),), (Package("foo-bar", "2"),)).changed == (Change("foo-bar", "1", "2"),)


def test_a_licence_that_has_become_known_is_no_change() -> None:
    assert not difference((Package("a", "1"),), (Package("a", "1", "MIT"),))
    assert difference((Package("a", "1", "MIT"),), (Package("a", "1", "AGPL-3.0-only"),)).changed == (
        Change("a", "1", "1", "MIT", "AGPL-3.0-only"),
    )


def test_a_name_with_several_versions() -> None:
    before = (Package("openssl", "3.0"), Package("openssl", "1.1"))
    assert difference(before, (Package("openssl", "3.0"),)) == Difference(removed=(Package("openssl", "1.1"),))
    assert difference(before, (Package("openssl", "3.1"), Package("openssl", "1.1"), Package("openssl", "4"))) == (
        Difference(added=(Package("openssl", "4"),), changed=(Change("openssl", "3.0", "3.1"),))
    )


PACKAGES = st.lists(st.builds(Package, st.sampled_from(["a", "b", "c"]), st.sampled_from(["1", "2", "3"])), max_size=6)


@given(PACKAGES, PACKAGES)
def test_it_leads_from_one_to_the_other_and_back(before: list[Package], after: list[Package]) -> None:
    there, back = difference(before, after), difference(after, before)
    assert (there.added, there.removed) == (back.removed, back.added)
    reached = set(before) - set(there.removed) - {Package(each.name, each.before) for each in there.changed}
    reached |= set(there.added) | {Package(each.name, each.after) for each in there.changed}
    assert reached == set(after)
    assert bool(there) == (set(before) != set(after))
