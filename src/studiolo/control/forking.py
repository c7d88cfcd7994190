"""What a workspace's apps and kernels may be forked from. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from studiolo import kernels
from studiolo.apps.app import Beginning
from studiolo.backends.backend import Zygote
from studiolo.environments.kind import Activation

KERNEL_OPTIONS = ("-Xfrozen_modules=off",)
"""Python's own, as in the kernel's argv: a debugger needs it."""

# ipykernel takes these in when it is imported. It is no child of whoever starts it; and it draws into the notebook.
_KERNEL_ENV = {"JPY_PARENT_PID": "1", "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
# Of the variables that a document sets, those that are taken in when something is imported. None of them is a secret.
_TAKEN_IN = (
    *("PYTHON", "LD_", "LC_", "LANG", "TZ", "MALLOC_", "MPL", "MATPLOTLIBRC"),
    *("OMP_", "KMP_", "GOMP_", "OPENBLAS_", "MKL_", "BLIS_", "NUMEXPR_"),
)


def for_kernels(
    base: Activation, ahead: tuple[str, ...], common: Mapping[str, str], declared: Mapping[str, str], owner: str
) -> Zygote | None:
    """For the kernels of everybody of this owner who works in the same generation, which `base` enters.

    `common` are the variables that the host gives to every workspace, `declared` those of the document.
    """
    if base.interpreter is None:
        return None
    path = ":".join([*base.path, common["PATH"]])
    env = {**common, **_named(owner), **_KERNEL_ENV, **base.env, **_taken_in(declared), "PATH": path}
    return Zygote((base.interpreter, *KERNEL_OPTIONS), env, (str(kernels.BEGIN),), ahead, owner)


def for_app(beginning: Beginning, common: Mapping[str, str], declared: Mapping[str, str], owner: str) -> Zygote:
    """For one kind of app, made from the same tools, of one owner."""
    env = {**common, **_named(owner), **_taken_in(declared)}
    return Zygote(beginning.python, env, beginning.begin, (), owner)


def _named(owner: str) -> dict[str, str]:
    return {"USER": owner, "LOGNAME": owner}


def _taken_in(declared: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in declared.items() if name.startswith(_TAKEN_IN)}
