"""What a workspace's apps and kernels are forked from: with the variables that count, and with nobody's secrets."""

from __future__ import annotations

import pytest

from studiolo.apps.app import Beginning
from studiolo.backends.local import zygote_child
from studiolo.control import forking
from studiolo.environments.kind import Activation

COMMON = {"LANG": "C.UTF-8", "PATH": "/usr/bin"}
OWN = {
    "LD_LIBRARY_PATH": "/prefix/lib",
    "PYTHONPATH": "/prefix/site",
    "CONDA_PREFIX": "/prefix",
    "OMP_NUM_THREADS": "2",
}


def test_what_is_taken_in_is_what_a_child_compares() -> None:
    assert set(forking.TAKEN_IN_BY_C) == set(zygote_child._READ_IN_C)
    exact = {*zygote_child._READ_IN_C_TOO, *zygote_child._SET_BY_KERNELS}
    assert set(forking.taken_in(dict.fromkeys(exact, "x"))) == exact


@pytest.mark.parametrize(
    "name", ["LANGCHAIN_API_KEY", "LANGFUSE_SECRET_KEY", "LANGSMITH_API_KEY", "TZ_TOKEN", "MPL_PASSWORD", "SECRET"]
)
def test_what_only_begins_like_such_a_name_is_left_out(name: str) -> None:
    assert forking.taken_in({name: "secret", "LANG": "C"}) == {"LANG": "C"}


def test_an_app_is_forked_from_what_has_its_generations_variables() -> None:
    beginning = Beginning(("/tools/bin/python", "-I"), ("/start.py",))
    found = forking.for_app(beginning, COMMON, OWN, "ada").env
    taken = {"LD_LIBRARY_PATH": "/prefix/lib", "PYTHONPATH": "/prefix/site", "OMP_NUM_THREADS": "2"}
    assert found == {**COMMON, "USER": "ada", "LOGNAME": "ada", **taken}


def test_kernels_are_forked_from_what_has_the_documents_variables_over_the_generations() -> None:
    base = Activation(("/prefix/bin",), OWN, "/prefix/bin/python")
    declared = {"OMP_NUM_THREADS": "4", "LANGCHAIN_API_KEY": "secret"}
    zygote = forking.for_kernels(base, ("numpy",), COMMON, declared, "ada")
    assert zygote is not None
    assert (zygote.env["OMP_NUM_THREADS"], zygote.env["PATH"]) == ("4", "/prefix/bin:/usr/bin")
    assert "LANGCHAIN_API_KEY" not in zygote.env
