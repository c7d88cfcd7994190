"""A Python that has imported what others begin with, and forks them: each is there in a few milliseconds, and shares
the memory of what was imported.

`<python> [options] zygote.py <socket> <json>` is run by the host agent, with the Python of an environment or of tools,
of any version from 3.9 on, where nothing of ours can be imported. The JSON is `{"options", "begin", "ahead"}`: Python's
own options again; what every start imports (modules, or files to run); and the modules that somebody will probably
import. `<socket>` is the number of an open SOCK_SEQPACKET socket, on which it says

    {"importing": MODULE}              before each of `ahead`: where it says nothing more, that is the one to blame
    {"spoiled": MODULE, "why": TEXT}   that one cannot be shared by forking (empty: all begins badly); it ends then
    {"ready": true}                    from here on it forks

and then hears `fork`, with six open files: standard input, output and error, a gate, a verdict, and the request
`{"argv", "env", "cwd"}` as JSON. The child belongs to its grandparent once it is born. It writes `p<pid>` (or
`e<errno>`, where there can be none) to the verdict, waits at the gate for a byte, and becomes what `argv` says. An
error in between is written to the verdict as a number, as `launching.spawn` does.

What is forked must not be told from what is executed. What a library took in while it was imported (variables, files
of the home, threads, open files) could tell. So the zygote refuses what cannot be shared, and a child that was asked
for in other circumstances than the zygote imported in executes its `argv` in the ordinary way.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import site
import socket
import sys
import time
from collections.abc import Callable, Iterable
from types import FrameType, ModuleType

_GO = b"g"
_FILES = 6
_PR_SET_PDEATHSIG = 1
_DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri/", "/dev/dxg", "/dev/accel")

# Read by Python itself or by libraries' C code as they are loaded, where `_note_reads` sees nothing of it.
_READ_IN_C = (
    *(
        "PYTHON",
        "LD_",
        "MALLOC_",
        "GLIBC_",
        "LC_",
        "LANG",
        "OMP_",
        "KMP_",
        "GOMP_",
        "OPENBLAS_",
        "GOTO_",
        "MKL_",
        "BLIS_",
    ),
    *("TORCH_", "PYTORCH_", "CUDA_", "TF_", "XLA_"),
)
# Of these, what is read only when it is needed.
_READ_LATER = frozenset(("PYTHONSTARTUP", "PYTHONBREAKPOINT", "LANGUAGE"))
# A module that takes the home in while it is imported cannot be shared, unless it is told its own again in the child.
# The others may differ.
_PERSONAL = ("HOME",)
_INDIFFERENT = frozenset(("PATH", "SHELL", "PWD", "TZ", "JPY_PARENT_PID", "JPY_SESSION_NAME"))
_TOLD_AGAIN = ("matplotlib", "matplotlib.font_manager", "matplotlib.style", "matplotlib.style.core")
# Set by ipykernel before anybody can import matplotlib.
_SET_BY_KERNELS = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
# Below the home: what matplotlib reads when it is imported.
_MATPLOTLIB_READS = (".config/matplotlib", ".matplotlib", ".fonts", ".local/share/fonts")


class SpoiledError(Exception):
    """An import has left something behind that a child must not share."""


class Request:
    """What a child is to become, and its side of the gate."""

    def __init__(self, files: list[int]) -> None:
        self.streams, (self.gate, self.verdict, content) = files[:3], files[3:]
        with os.fdopen(content, "rb") as text:
            text.seek(0)
            asked = json.load(text)
        self.argv, self.env, self.cwd = asked["argv"], asked["env"], asked["cwd"]


class Zygote:
    """What is imported, and in which circumstances."""

    def __init__(self, channel: socket.socket, options: list[str], begin: list[str], ahead: list[str]) -> None:
        self.channel = channel
        self.options = options
        self.executable = sys.executable
        self.variables = _started_with()
        self.coerced = {name: value for name, value in os.environ.items() if name not in self.variables}
        """What Python itself has set, as it does where the locale is C (PEP 538)."""
        self.reads: dict[str, tuple[str | None, set[str]]] = {}
        self.anew: set[str] = set()
        self.path = [each for each in sys.path if each]
        stdlib = os.path.dirname(os.path.abspath(os.__file__))
        self.stdlib = [
            each for each in self.path if each.endswith(".zip") or (each.startswith(stdlib) and "-packages" not in each)
        ]
        stop_noting = self._note_reads()
        files = _files()
        try:
            for name in begin:
                self._begin_with(name)
            self._look(files)
            self._look_for_personal(set())
        except BaseException as error:
            self._refuse("", _in_short(error))
        self.begun = set(sys.modules)
        for name in ahead:
            self._import_ahead(name)
        stop_noting()
        before = {**self.coerced, **self.variables}
        self.left = {name: value for name, value in os.environ.items() if before.get(name) != value}
        """Variables that imports have set."""
        self.imported = {name.partition(".")[0] for name in sys.modules}
        self.ahead = {name.partition(".")[0] for name in set(sys.modules) - self.begun}

    def say(self, **message: object) -> None:
        self.channel.send(json.dumps(message).encode())

    def _note_reads(self) -> Callable[[], None]:
        """Remember which variables are read from Python, with what they were (None: not there) and which modules were
        being imported, until the function that is returned is called."""
        environ, reads = type(os.environ), self.reads
        ordinary = environ.__getitem__

        def noted(variables: os._Environ[str], name: str) -> str:
            value = None
            try:
                value = ordinary(variables, name)
                return value
            finally:
                text = None if value is None else os.fsdecode(value)
                reads.setdefault(os.fsdecode(name), (text, set()))[1].add(_being_imported())

        environ.__getitem__ = noted  # type: ignore[method-assign]
        return lambda: setattr(environ, "__getitem__", ordinary)

    def _begin_with(self, name: str) -> None:
        if name.endswith(".py"):
            self.anew.update(runpy.run_path(name, run_name="zygote").get("ANEW", ()))
            return
        # Not in every version of it; whoever starts will say what is really missing.
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)

    def _import_ahead(self, name: str) -> None:
        self.say(importing=name)
        files, before = _files(), self._takers(_PERSONAL)
        try:
            importlib.import_module(name)
            self._look(files)
            self._look_for_personal(before)
        except BaseException as error:  # a module may even end the program
            self._refuse(name, _in_short(error))

    def _refuse(self, name: str, why: str) -> None:
        self.say(spoiled=name, why=why)
        os._exit(1)

    def _look(self, files: set[str]) -> None:
        """Whether a child could do without what this import has left behind."""
        threads = _threads()
        if len(threads) > 1:
            # Some libraries (OpenBLAS) end their threads before a fork, and start them again when they compute.
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
            if len(_threads()) > 1:
                raise SpoiledError(f"it starts threads ({len(threads) - 1}), which forking would lose")
        new = _files() - files
        device = next((each for each in new for device in _DEVICES if each.startswith(device)), None)
        if device is not None:
            raise SpoiledError(f"it opens a device, {device}, which cannot be shared by forking")
        if new:
            raise SpoiledError(f"it keeps {min(new)} open, which forking would share")
        with open(f"/proc/self/task/{os.getpid()}/children") as children:
            if children.read().strip():
                raise SpoiledError("it starts a program, which would have the wrong parent")

    def _look_for_personal(self, before: set[str]) -> None:
        if takers := self._takers(_PERSONAL) - before:
            raise SpoiledError(
                f"{min(takers)} takes the home folder in while it is imported, and everybody has another"
            )

    def _takers(self, variables: Iterable[str]) -> set[str]:
        """The modules that have taken these in, without those that take them in again in every child."""
        found = {module for name in variables for module in self.reads.get(name, ("", ()))[1]}
        return {module for module in found if module not in {*self.anew, *_TOLD_AGAIN} and not self._is_stdlib(module)}

    def _is_stdlib(self, name: str) -> bool:
        file = getattr(sys.modules.get(name), "__file__", None)
        return file is None or (os.path.dirname(file).startswith(tuple(self.stdlib)) and "-packages" not in file)

    def serve(self) -> Request:
        """Fork whenever asked; returns in the children only. Ends with whoever asks."""
        while True:
            word, files, _, _ = socket.recv_fds(self.channel, 16, _FILES)
            if not word or len(files) != _FILES:
                os._exit(0)
            request = _born(files)
            if request is not None:
                return request

    def become(self, request: Request) -> None:
        """The child: be what was asked for, as if it had been executed."""
        argv, env = request.argv, request.env
        try:
            for target, stream in enumerate(request.streams):
                os.dup2(stream, target)
            for stream in request.streams:
                os.close(stream)
            os.chdir(request.cwd)
            os.environ.clear()
            os.environ.update({**self.coerced, **self.left, **env})
            time.tzset()
            words = self._words(argv)
            difference = self._difference(env) or self._move(argv[0]) or self._shadow() if words else "its options"
            if difference:
                os.write(2, f"[studiolo] started without forking: {difference}\n".encode())
                os.execve(argv[0], argv, env)
        except OSError as error:
            os.write(request.verdict, str(error.errno).encode())
            os._exit(127)
        os.close(request.verdict)
        os.close(request.gate)
        self.channel.detach()  # closed already; its number belongs to somebody else by the time that it is finalized
        _show(argv, env)
        if os.isatty(1):
            sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        # Python's own random numbers are taken care of by Python.
        if "numpy.random" in sys.modules:
            sys.modules["numpy.random"].seed()
        if "multiprocessing.process" in sys.modules:
            sys.modules["multiprocessing.process"].current_process().authkey = os.urandom(32)
        matplotlib = sys.modules.get("matplotlib")
        if matplotlib is not None:
            _tell_home(matplotlib, self.variables["HOME"])
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

    def _words(self, argv: list[str]) -> list[str]:
        """What follows Python's own options; nothing where those are others than the zygote's."""
        count = len(self.options)
        words = argv[1 + count :] if argv[1 : 1 + count] == self.options else []
        module = words[:1] == ["-m"] and len(words) > 1
        return words if module or (words and not words[0].startswith("-")) else []

    def _difference(self, env: dict[str, str]) -> str:
        """Why something would have been imported in another way; empty where nothing would."""
        for name in sorted({*self.variables, *env}):
            read = name.startswith(_READ_IN_C) and name not in _READ_LATER
            if read and self.variables.get(name) != env.get(name):
                return f"{name} is set differently"
        for name, left in self.left.items():
            if env.get(name, left) != left:
                return f"{name} is set differently"
        later = {**_SET_BY_KERNELS, **env}
        for name, (value, _) in self.reads.items():
            if name not in _INDIFFERENT and name not in _PERSONAL and later.get(name) != value and self._takers([name]):
                return f"{name} is set differently"
        if "matplotlib" in self.imported:
            if os.path.exists("matplotlibrc"):
                return "there is a matplotlibrc"
            for each in _MATPLOTLIB_READS:
                if _has_files(os.path.join(env.get("HOME", "/"), each)):
                    return f"there are files in ~/{each}"
        return ""

    def _move(self, executable: str) -> str:
        """Be another virtual environment over the same Python: its search path, its packages. Why not, where not."""
        if executable == self.executable:
            return ""
        prefix = os.path.dirname(os.path.dirname(os.path.abspath(executable)))
        same = os.path.realpath(executable) == os.path.realpath(self.executable)
        if not same or not os.path.exists(os.path.join(prefix, "pyvenv.cfg")):
            return "it is another Python"
        sys.executable = executable
        sys.prefix = sys.exec_prefix = prefix
        sys.path[:] = self.stdlib
        site.PREFIXES[:] = [prefix]
        site.ENABLE_USER_SITE = site.USER_SITE = site.USER_BASE = None
        for name in ("sitecustomize", "usercustomize"):
            sys.modules.pop(name, None)
        site.main()
        if "sysconfig" in sys.modules:  # it has taken the prefix down
            importlib.reload(sys.modules["sysconfig"])
        return ""

    def _shadow(self) -> str:
        """Which folder that comes first has another module by the name of an imported one; empty where none has."""
        for folder in sys.path:
            if folder in self.stdlib:
                continue
            if folder in self.path:
                break
            if names := self.imported & _modules_in(folder):
                return f"{folder} has a {min(names)} of its own"
        # The working folder is searched first too, but only once the start itself is over.
        if not _safe_path() and (names := self.ahead & _modules_in(".")):
            return f"the working folder has a {min(names)} of its own"
        return ""


def _safe_path() -> bool:
    """Whether Python leaves the folder of the program, or the working folder, out of its search path."""
    return bool(getattr(sys.flags, "safe_path", sys.flags.isolated))


def _being_imported() -> str:
    """The module whose own code runs right now, or called what runs."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "")) if frame is not None else ""


def _born(files: list[int]) -> Request | None:
    """Fork a grandchild, which gets the request; None in the zygote itself. Whoever asked reads how it went."""
    child = _fork(files[4])
    if child != 0:
        for file in files:
            os.close(file)
        if child is not None:
            os.waitpid(child, 0)
        return None
    if _fork(files[4]) != 0:
        os._exit(0)
    os.setsid()
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in files:
            with contextlib.suppress(OSError):  # the one by which they were listed
                os.close(int(name))
    for file in files:
        os.set_inheritable(file, False)
    request = Request(files)
    try:
        os.write(request.verdict, b"p%d\n" % os.getpid())
        went = os.read(request.gate, 1)
    except OSError:
        went = b""
    if went != _GO:
        os._exit(0)
    return request


def _started_with() -> dict[str, str]:
    with open("/proc/self/environ") as variables:
        return dict(each.split("=", 1) for each in variables.read().split("\0") if "=" in each)


def _fork(verdict: int) -> int | None:
    """0 in the child; None where there can be none, which the verdict tells."""
    try:
        return os.fork()
    except OSError as error:
        os.write(verdict, b"e%d\n" % (error.errno or 0))
        return None


def _threads() -> list[str]:
    return os.listdir("/proc/self/task")


def _files() -> set[str]:
    """What is open, beyond the standard streams."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one by which they were listed
            if int(name) > 2:
                found.add(os.readlink(f"/proc/self/fd/{name}"))
    return found


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
            for begin, end, words in (
                (int(fields[45]), int(fields[46]), argv),
                (int(fields[47]), int(fields[48]), [f"{name}={value}" for name, value in env.items()]),
            ):
                text = b"".join(os.fsencode(word) + b"\0" for word in words)[: end - begin - 1]
                memory.seek(begin)
                memory.write(text.ljust(end - begin, b"\0"))


def _in_short(error: BaseException) -> str:
    if isinstance(error, SpoiledError):
        return str(error)
    return "importing it fails: " + " ".join(f"{type(error).__name__}: {error}".split())[:300]


def main(number: str, text: str) -> None:
    with contextlib.suppress(OSError, AttributeError):  # it ends with the agent, however that ends
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    asked = json.loads(text)
    if not sys.flags.isolated:
        del sys.path[0]  # this program's own folder
    gc.disable()
    zygote = Zygote(socket.socket(fileno=int(number)), asked["options"], asked["begin"], asked["ahead"])
    gc.collect()
    gc.freeze()
    gc.enable()
    zygote.say(ready=True)
    zygote.become(zygote.serve())


if __name__ == "__main__":
    main(*sys.argv[1:])
