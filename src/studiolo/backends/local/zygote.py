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
`{"argv", "env", "cwd"}` as JSON, perhaps with a `umask`. The child belongs to its grandparent once it is born. It
writes `p<pid>` (or `e<errno>`, where there can be none) to the verdict, waits at the gate for a byte, and becomes what
`argv` says. An error in between is written to the verdict as a number, as `launching.spawn` does.

What is forked must not be told from what is executed. What a library took in while it was imported (variables, files
of the home, threads, open files) could tell. So the zygote refuses what cannot be shared, and a child that was asked
for in other circumstances than the zygote imported in executes its `argv` in the ordinary way.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import importlib
import importlib.util
import json
import os
import runpy
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

_GO = b"g"
_FILES = 6
_PR_SET_PDEATHSIG = 1
_DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri/", "/dev/dxg", "/dev/accel")

# A module that takes the home, or the working folder, in while it is imported cannot be shared, unless it is told its
# own again in the child.
_PERSONAL = ("HOME",)
_TOLD_AGAIN = ("matplotlib", "matplotlib.font_manager", "matplotlib.style", "matplotlib.style.core")


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
        self.umask = asked.get("umask")


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
        here = os.getcwd

        def noted_here() -> str:
            reads.setdefault(_PERSONAL[0], (None, set()))[1].add(_being_imported())
            return here()

        os.getcwd = noted_here

        def end() -> None:
            environ.__getitem__ = ordinary  # type: ignore[method-assign]
            os.getcwd = here

        return end

    def _begin_with(self, name: str) -> None:
        if name.endswith(".py"):
            self.anew.update(runpy.run_path(name, run_name="zygote").get("ANEW", ()))
            return
        # Not in every version of it; whoever starts will say what is really missing.
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)

    def _import_ahead(self, name: str) -> None:
        self.say(importing=name)
        files, before = _files(), self.takers(_PERSONAL)
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
        if takers := self.takers(_PERSONAL) - before:
            raise SpoiledError(
                f"{min(takers)} takes the home or working folder in while it is imported, and everybody has another"
            )

    def takers(self, variables: Iterable[str]) -> set[str]:
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
    between = os.getpid()
    if _fork(files[4]) != 0:
        os._exit(0)
    while os.getppid() == between:  # until it is the agent's child
        time.sleep(0.0002)
    os.setsid()
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in files:
            with contextlib.suppress(OSError):  # the one by which they were listed
                os.close(int(name))
    for file in files:
        os.set_inheritable(file, False)
    gate, verdict = files[3:5]
    try:
        os.write(verdict, b"p%d\n" % os.getpid())
        if os.read(gate, 1) == _GO:
            return Request(files)
    except (OSError, ValueError, KeyError):
        os.write(verdict, str(errno.EINVAL).encode())
    os._exit(0)


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
    """What is open, beyond the standard streams, and memory that a child would go on sharing."""
    found = set()
    with open("/proc/self/maps") as maps:
        for line in maps:
            place, rights, *_, name = [*line.split(), ""]
            if rights.endswith("s") and "w" in rights:
                found.add(f"shared memory ({name or place})")
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one by which they were listed
            if int(name) > 2:
                found.add(os.readlink(f"/proc/self/fd/{name}"))
    return found


def _in_short(error: BaseException) -> str:
    if isinstance(error, SpoiledError):
        return str(error)
    return "importing it fails: " + " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _beside(name: str) -> Any:
    """A module from the folder of this program, which nobody else is to find."""
    spec = importlib.util.spec_from_file_location(name, os.path.join(os.path.dirname(__file__), f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(number: str, text: str) -> None:
    with contextlib.suppress(OSError, AttributeError):  # it ends with the agent, however that ends
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    asked = json.loads(text)
    if not getattr(sys.flags, "safe_path", sys.flags.isolated):
        del sys.path[0]  # this program's own folder
    child = _beside("zygote_child")
    gc.disable()
    zygote = Zygote(socket.socket(fileno=int(number)), asked["options"], asked["begin"], asked["ahead"])
    gc.collect()
    gc.freeze()
    gc.enable()
    zygote.say(ready=True)
    child.become(zygote, zygote.serve())


if __name__ == "__main__":
    main(*sys.argv[1:])
