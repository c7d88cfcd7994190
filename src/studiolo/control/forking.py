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
# Of the variables that are set for a workspace, those that are taken in while something is imported. By Python itself,
# whose list grows with its versions, and by C code: what `zygote_child` compares, as a test says. Then by what reads
# them in Python, each by its whole name: what only begins like that may be a secret's.
TAKEN_IN_BY_C = (
    *("PYTHON", "LD_", "MALLOC_", "GLIBC_", "LC_", "OMP_", "KMP_", "GOMP_", "OPENBLAS_", "GOTO_", "MKL_"),
    *("BLIS_", "TORCH_", "PYTORCH_", "CUDA_", "TF_", "XLA_"),
)
_TAKEN_IN = frozenset(("LANG", "LANGUAGE", "TZ", "MPLBACKEND", "MPLCONFIGDIR", "MATPLOTLIBRC"))
_TAKEN_IN_PREFIXES = (*TAKEN_IN_BY_C, "NUMEXPR_")


def for_kernels(
    base: Activation, ahead: tuple[str, ...], common: Mapping[str, str], declared: Mapping[str, str], owner: str
) -> Zygote | None:
    """For the kernels of everybody of this owner who works in the same generation, which `base` enters.

    `common` are the variables that the host gives to every workspace, `declared` those of the document.
    """
    if base.interpreter is None:
        return None
    path = ":".join([*base.path, common["PATH"]])
    env = {**common, **_named(owner), **_KERNEL_ENV, **base.env, **taken_in(declared), "PATH": path}
    return Zygote((base.interpreter, *KERNEL_OPTIONS), env, (str(kernels.BEGIN),), ahead, owner)


def for_app(beginning: Beginning, common: Mapping[str, str], own: Mapping[str, str], owner: str) -> Zygote:
    """For one kind of app, made from the same tools, of one owner. `own` are the variables of its workspace: what its
    generation sets, and the document over that."""
    env = {**common, **_named(owner), **taken_in(own)}
    return Zygote(beginning.python, env, beginning.begin, (), owner)


def _named(owner: str) -> dict[str, str]:
    return {"USER": owner, "LOGNAME": owner}


def taken_in(variables: Mapping[str, str]) -> dict[str, str]:
    """Those that make a difference while something is imported."""
    return {
        name: value for name, value in variables.items() if name in _TAKEN_IN or name.startswith(_TAKEN_IN_PREFIXES)
    }
