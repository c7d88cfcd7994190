"""What a zygote's child does: becomes what was asked for, as if that had been executed, or executes it.

Loaded by `zygote.py`, before anything else is imported there.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import runpy
import site
import socket
import sys
import time
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, Protocol

# Read by Python itself or by libraries' C code as they are loaded, where `_note_reads` sees nothing of it.
_READ_IN_C = (
    *("PYTHON", "LD_", "MALLOC_", "GLIBC_", "LC_", "OMP_", "KMP_", "GOMP_", "OPENBLAS_", "GOTO_", "MKL_"),
    *("BLIS_", "TORCH_", "PYTORCH_", "CUDA_", "TF_", "XLA_"),
)
_READ_IN_C_TOO = ("LANG",)
# Of these, what is read only when it is needed.
_READ_LATER = frozenset(("PYTHONSTARTUP", "PYTHONBREAKPOINT"))
_PR_SET_MM, _PR_SET_MM_ARG_END, _PR_SET_MM_ENV_END = 35, 9, 11
# May differ. What is derived from the home is looked at library by library.
_INDIFFERENT = frozenset(("HOME", "PATH", "SHELL", "PWD", "TZ", "JPY_PARENT_PID", "JPY_SESSION_NAME"))
# Lists of folders that were made from the prefix as their modules were imported.
_BELOW_PREFIX = (
    ("jupyter_core.paths", "ENV_JUPYTER_PATH"),
    ("jupyter_core.paths", "ENV_CONFIG_PATH"),
    ("IPython.core.application", "ENV_CONFIG_DIRS"),
)
# Set by ipykernel before anybody can import matplotlib.
_SET_BY_KERNELS = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
# Below the home: what matplotlib reads when it is imported.
_MATPLOTLIB_READS = (".config/matplotlib", ".matplotlib", ".fonts", ".local/share/fonts")


class Asked(Protocol):
    """What to become, and the streams and the verdict's file to do it with."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    umask: int | None
    streams: list[int]
    gate: int
    verdict: int


class Imported(Protocol):
    """What the zygote has imported, and in which circumstances."""

    channel: socket.socket
    options: list[str]
    executable: str
    variables: Mapping[str, str]
    coerced: Mapping[str, str]
    left: Mapping[str, str]
    reads: Mapping[str, tuple[str | None, set[str]]]
    path: list[str]
    stdlib: list[str]
    imported: set[str]
    ahead: set[str]

    def takers(self, variables: Iterable[str]) -> set[str]: ...


def become(zygote: Imported, request: Asked) -> None:
    """The child: be what was asked for, as if it had been executed."""
    argv, env = request.argv, request.env
    try:
        for target, stream in enumerate(request.streams):
            os.dup2(stream, target)
        for stream in request.streams:
            os.close(stream)
        os.chdir(request.cwd)
        if request.umask is not None:
            os.umask(request.umask)
        os.environ.clear()
        os.environ.update({**zygote.coerced, **zygote.left, **env})
        time.tzset()
        words = _words(zygote, argv)
        difference = _difference(zygote, env) or _move(zygote, argv[0]) or _shadow(zygote) if words else "its options"
        if difference:
            os.write(2, f"[studiolo] started without forking: {difference}\n".encode())
            os.execve(argv[0], argv, env)
    except OSError as error:
        os.write(request.verdict, str(error.errno).encode())
        os._exit(127)
    os.close(request.verdict)
    os.close(request.gate)
    zygote.channel.detach()  # closed already; its number belongs to somebody else by the time that it is finalized
    _show(argv, env)
    if os.isatty(1):
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    # Python's own random numbers are taken care of by Python.
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    if "multiprocessing.process" in sys.modules:
        process: Any = sys.modules["multiprocessing.process"]
        process.current_process().authkey = os.urandom(32)
        process.ORIGINAL_DIR = os.getcwd()
    matplotlib = sys.modules.get("matplotlib")
    if matplotlib is not None:
        _tell_home(matplotlib, zygote.variables["HOME"])
    sys.orig_argv = list(argv)
    if words[0] == "-m":
        sys.argv = ["-m", *words[2:]]
        if not _safe_path():
            sys.path.insert(0, os.getcwd())
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(words)
        if not _safe_path():
            sys.path.insert(0, os.path.dirname(os.path.abspath(words[0])))
        runpy.run_path(words[0], run_name="__main__")


def _words(zygote: Imported, argv: list[str]) -> list[str]:
    """What follows Python's own options; nothing where those are others than the zygote's."""
    count = len(zygote.options)
    words = argv[1 + count :] if argv[1 : 1 + count] == zygote.options else []
    module = words[:1] == ["-m"] and len(words) > 1
    return words if module or (words and not words[0].startswith("-")) else []


def _difference(zygote: Imported, env: dict[str, str]) -> str:
    """Why something would have been imported in another way; empty where nothing would."""
    # What Python and the imports have set by themselves may be inherited from another kernel, or not be there yet.
    imported = {**zygote.variables, **zygote.coerced, **zygote.left}
    wanted = {**zygote.coerced, **zygote.left, **env}
    for name in sorted({*imported, *wanted}):
        python = name.startswith("PYTHON") and sys.flags.ignore_environment
        read = name.startswith(_READ_IN_C) or name in _READ_IN_C_TOO or name in zygote.left
        if read and not python and name not in _READ_LATER and imported.get(name) != wanted.get(name):
            return f"{name} is set differently"
    later = {**_SET_BY_KERNELS, **env}
    for name, (value, _) in zygote.reads.items():
        if name not in _INDIFFERENT and name not in zygote.left and later.get(name) != value and zygote.takers([name]):
            return f"{name} is set differently"
    if "matplotlib" in zygote.imported:
        if os.path.exists("matplotlibrc"):
            return "there is a matplotlibrc"
        for each in _MATPLOTLIB_READS:
            if _has_files(os.path.join(env.get("HOME", "/"), each)):
                return f"there are files in ~/{each}"
    return ""


def _move(zygote: Imported, executable: str) -> str:
    """Be another virtual environment over the same Python: its search path, its packages. Why not, where not."""
    if executable == zygote.executable:
        return ""
    prefix = os.path.dirname(os.path.dirname(os.path.abspath(executable)))
    same = os.path.realpath(executable) == os.path.realpath(zygote.executable)
    if not same or not os.path.exists(os.path.join(prefix, "pyvenv.cfg")):
        return "it is another Python"
    was = sys.prefix
    sys.executable = executable
    sys.prefix = sys.exec_prefix = prefix
    sys.path[:] = [*_python_path(), *zygote.stdlib]
    site.PREFIXES[:] = [prefix]
    site.ENABLE_USER_SITE = site.USER_SITE = site.USER_BASE = None
    for name in ("sitecustomize", "usercustomize"):
        sys.modules.pop(name, None)
    site.main()
    if "sysconfig" in sys.modules:  # it has taken the prefix down
        importlib.reload(sys.modules["sysconfig"])
    for module, name in _BELOW_PREFIX:
        folders = getattr(sys.modules.get(module), name, None)
        if isinstance(folders, list):
            folders[:] = [each.replace(was, prefix, 1) if each.startswith(was + os.sep) else each for each in folders]
    return ""


def _shadow(zygote: Imported) -> str:
    """Which folder that comes first has another module by the name of an imported one; empty where none has."""
    first = _python_path()
    for folder in sys.path:
        if folder in zygote.stdlib or (folder in first and folder in zygote.path):  # the zygote has searched them too
            continue
        if folder in zygote.path:
            break
        if names := zygote.imported & _modules_in(folder):
            return f"{folder} has a {min(names)} of its own"
    # The working folder is searched first too, but only once the start itself is over.
    if not _safe_path() and (names := zygote.ahead & _modules_in(".")):
        return f"the working folder has a {min(names)} of its own"
    return ""


def _python_path() -> list[str]:
    """The folders that PYTHONPATH puts first. They are the zygote's too, or else something is set differently."""
    if sys.flags.ignore_environment:
        return []
    return [os.path.abspath(each) for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]


def _safe_path() -> bool:
    """Whether Python leaves the folder of the program, or the working folder, out of its search path."""
    return bool(getattr(sys.flags, "safe_path", sys.flags.isolated))


def _modules_in(folder: str) -> set[str]:
    """The names that could be imported from a folder."""
    try:
        return {name.partition(".")[0] for name in os.listdir(folder or ".")}
    except OSError:
        return set()


def _has_files(folder: str) -> bool:
    try:
        return bool(os.listdir(folder))
    except OSError:
        return False


def _tell_home(matplotlib: ModuleType, was: str) -> None:
    """Have it look for its folders anew: they are below another home now."""
    for name in ("get_configdir", "get_cachedir"):
        once = getattr(matplotlib, "_logged_cached", None)
        found = getattr(getattr(matplotlib, name, None), "__wrapped__", None)
        if once is not None and found is not None:
            setattr(matplotlib, name, once(f"{name}=%s", found))
    folders = getattr(sys.modules.get("matplotlib.font_manager"), "X11FontDirectories", None)
    if isinstance(folders, list):
        folders[:] = [folder.replace(was, os.environ.get("HOME", was), 1) for folder in folders]
    style = sys.modules.get("matplotlib.style.core") or sys.modules.get("matplotlib.style")
    paths = getattr(style, "USER_LIBRARY_PATHS", None)
    if isinstance(paths, list):
        paths[:] = [os.path.join(matplotlib.get_configdir(), "stylelib")]


def _show(argv: list[str], env: dict[str, str]) -> None:
    """Have `ps` and whoever reads /proc see the new command line and environment, as far as there is room."""
    # It is only shown.
    with contextlib.suppress(OSError, ValueError, IndexError):
        with open("/proc/self/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            for begin, end, number, words in (
                (int(fields[45]), int(fields[46]), _PR_SET_MM_ARG_END, argv),
                (int(fields[47]), int(fields[48]), _PR_SET_MM_ENV_END, [f"{name}={env[name]}" for name in env]),
            ):
                text = b"".join(os.fsencode(word) + b"\0" for word in words)[: end - begin - 1]
                memory.seek(begin)
                memory.write(text.ljust(end - begin, b"\0"))
                # Without the right to do this (CAP_SYS_RESOURCE) what follows is seen as empty words.
                ctypes.CDLL(None).prctl(_PR_SET_MM, number, ctypes.c_ulong(begin + len(text)), 0, 0)
