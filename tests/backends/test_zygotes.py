"""Zygotes: what is forked is as what is executed, and whatever happens to a zygote costs speed only."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import pytest

from bench import Bench, until
from studiolo.backends.backend import Zygote
from studiolo.backends.local import procfs
from studiolo.backends.local import zygotes as module
from studiolo.backends.local.cgroup import Hierarchy
from studiolo.backends.local.launching import Ending, Gated, ended, spawn
from studiolo.backends.local.zygotes import Zygotes
from studiolo.daemon import Identity

ENV = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "USER": "ada"}


@dataclass
class Nest:
    """Zygotes, and a folder with modules that they can import."""

    zygotes: Zygotes
    folder: Path
    children: list[Identity] = field(default_factory=list)

    def module(self, name: str, text: str) -> str:
        (self.folder / f"{name}.py").write_text(text)
        return name

    def zygote(self, *ahead: str, begin: tuple[str, ...] = ("json",), **env: str) -> Zygote:
        return Zygote((sys.executable,), {**ENV, "PYTHONPATH": str(self.folder), **env}, begin, ahead, "ada")

    async def ready(self, zygote: Zygote) -> None:
        async def is_ready() -> bool:
            self.zygotes.warm(zygote)
            await self.zygotes.tend()
            return self.zygotes.ahead(zygote).ready

        await until(is_ready)

    async def fork(
        self, zygote: Zygote, argv: list[str], env: Mapping[str, str], cwd: Path, output: int, patience: float = 20.0
    ) -> Gated | None:
        content = os.memfd_create("request")
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            os.write(content, json.dumps({"argv": argv, "env": dict(env), "cwd": str(cwd)}).encode())
            child = await self.zygotes.fork(zygote, (nothing, output, output), content, patience=patience)
        finally:
            os.close(content)
            os.close(nothing)
        if child is not None:
            self.children.append(child.identity)
        return child

    async def outcome(self, zygote: Zygote, program: str, *words: str, **env: str) -> tuple[str, Ending | None]:
        """What a forked program prints, and how it ends (None: it was none of ours)."""
        script = self.folder / "program.py"
        script.write_text(program)
        read, write = os.pipe()
        given = {**zygote.env, "HOME": str(self.folder), **env}
        child = await self.fork(zygote, [*zygote.python, str(script), *words], given, self.folder, write)
        os.close(write)
        assert child is not None, "there was nothing to fork from"
        assert await child.release() is None
        with os.fdopen(read) as said:
            text = await asyncio.to_thread(said.read)
        return text, await ended(child.identity)


@pytest.fixture
async def nest(tmp_path: Path) -> AsyncIterator[Nest]:
    (tmp_path / "modules").mkdir()
    nest = Nest(Zygotes(tmp_path / "zygotes", Hierarchy.absent("it is a test")), tmp_path / "modules")
    yield nest
    await nest.zygotes.close()
    for child in nest.children:
        if child.alive:
            os.kill(child.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # no zombie is left to the tests that follow
            os.waitpid(child.pid, 0)
    assert not [each for each in psutil.Process().children() if each.status() == psutil.STATUS_ZOMBIE]


REPORT = """
import asyncio, atexit, gc, json, locale, os, signal, site, sys, sysconfig, threading, time
fds = os.listdir("/proc/self/fd")
print(json.dumps({
    "argv": [sys.argv, getattr(sys, "orig_argv", []), sys.executable, str(sys.flags), sys._xoptions, sys.path],
    "prefix": [sys.prefix, sys.exec_prefix, sys.base_prefix, sysconfig.get_path("purelib"), site.PREFIXES],
    "process": [dict(os.environ), os.getcwd(), os.umask(0), os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()],
    "streams": [os.readlink(f"/proc/self/fd/{fd}").split(":")[0] for fd in range(3)],
    "buffers": [sys.stdout.line_buffering, sys.stdout.encoding, sys.stdin.isatty(), sys.getfilesystemencoding()],
    "threads": [threading.active_count(), len(os.listdir("/proc/self/task")), threading.current_thread().name],
    "signals": {int(n): str(signal.getsignal(n)).split(" at ")[0] for n in signal.valid_signals()},
    "masked": [len(signal.pthread_sigmask(signal.SIG_BLOCK, [])), signal.set_wakeup_fd(-1)],
    "locale": [locale.setlocale(locale.LC_CTYPE), time.tzname, gc.isenabled(), asyncio._get_running_loop() is None],
    "main": [__name__, __file__, sys.modules["__main__"].__dict__ is globals(), site.ENABLE_USER_SITE],
    "shown": [open("/proc/self/cmdline").read().rstrip("\\0"), "SECRET=x" in open("/proc/self/environ").read()],
}))
print(sorted(int(fd) for fd in fds)[:3], len(fds))
atexit.register(lambda: print("at exit", flush=True))
sys.exit(int(sys.argv[1]))
"""


@pytest.mark.parametrize("status", [0, 3])
async def test_what_is_forked_cannot_be_told_from_what_is_executed(nest: Nest, status: int) -> None:
    zygote = nest.zygote()
    env = {"SECRET": "x", "TZ": "Asia/Tokyo", "PYTHONSTARTUP": "/nowhere"}
    forked, ending = await nest.outcome(zygote, REPORT, str(status), **env)
    assert ending is not None
    # A child of its own: here nobody adopts it, so that its status stays unknown.
    script = nest.folder / "program.py"
    read, write = os.pipe()
    nothing = os.open(os.devnull, os.O_RDONLY)
    given = {**zygote.env, "HOME": str(nest.folder), **env}
    child = spawn([*zygote.python, str(script), str(status)], given, str(nest.folder), (nothing, write, write))
    os.close(nothing)
    os.close(write)
    assert await child.release() is None
    with os.fdopen(read) as said:
        executed = await asyncio.to_thread(said.read)
    assert (await ended(child.identity)).status == status
    assert "started without forking" not in forked
    lines = forked.splitlines()
    assert json.loads(lines[0]) == json.loads(executed.splitlines()[0])
    assert lines[1] == "[0, 1, 2] 4", "it has more open than its streams and the list of them"
    assert lines[2] == executed.splitlines()[2] == "at exit"


async def test_random_numbers_are_everybodys_own(nest: Nest) -> None:
    draws = """
import json, multiprocessing, os, random, secrets, tempfile, uuid
print(json.dumps([random.random(), random.SystemRandom().random(), str(uuid.uuid4()), secrets.token_hex(),
                  os.urandom(9).hex(), next(tempfile._get_candidate_names()),
                  bytes(multiprocessing.current_process().authkey).hex()]))
"""
    zygote = nest.zygote("random", "uuid", "secrets", "tempfile", "multiprocessing")
    one = json.loads((await nest.outcome(zygote, draws))[0].splitlines()[-1])
    other = json.loads((await nest.outcome(zygote, draws))[0].splitlines()[-1])
    assert not set(one) & set(other)


async def test_nothing_of_one_child_reaches_another_or_the_zygote(nest: Nest) -> None:
    zygote = nest.zygote()
    leak = "import os, json\njson.leaked = os.environ.get('SECRET')\nprint(os.environ['HOME'])"
    await nest.outcome(zygote, leak, SECRET="hush")
    look = "import os, json\nprint(getattr(json, 'leaked', None), os.environ.get('SECRET'))"
    assert (await nest.outcome(zygote, look))[0] == "None None\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("raise ValueError('no')", "importing it fails: ValueError: no"),
        ("raise SystemExit(0)", "importing it fails: SystemExit: 0"),
        ("import os; os._exit(0)", "importing it ends the program"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "importing it ends the program"),
        ("import threading, time; threading.Thread(target=time.sleep, args=(99,)).start()", "it starts threads (1)"),
        ("keep = open('/etc/hostname')", "it keeps /etc/hostname open"),
        ("import socket; keep = socket.create_server(('127.0.0.1', 0))", "it keeps socket:"),
        ("import subprocess; keep = subprocess.Popen(['sleep', '9'])", "it starts a program"),
        ("import os; there = os.path.expanduser('~/.cache')", "takes the home or working folder in"),
        ("import pathlib; there = pathlib.Path.home()", "takes the home or working folder in"),
        ("import os; there = os.path.abspath('data')", "takes the home or working folder in"),
        ("import multiprocessing; lock = multiprocessing.Lock()", "it keeps shared memory ("),
    ],
)
async def test_a_module_that_cannot_be_shared_is_left_out(nest: Nest, text: str, why: str) -> None:
    zygote = nest.zygote(nest.module("harmless", ""), nest.module("bad", text), nest.module("later", ""))
    await nest.ready(zygote)
    ahead = nest.zygotes.ahead(zygote)
    assert ahead.modules == ("harmless", "later")
    assert why in ahead.left_out["bad"]


async def test_what_imports_have_started_ends_with_them(nest: Nest) -> None:
    note = nest.folder / "pid"
    text = f"import subprocess; open({str(note)!r}, 'w').write(str(subprocess.Popen(['sleep', '99']).pid))"
    zygote = nest.zygote(nest.module("starts", text))
    await nest.ready(zygote)
    assert "it starts a program" in nest.zygotes.ahead(zygote).left_out["starts"]
    await until(lambda: asyncio.sleep(0, Identity.of(int(note.read_text())) is None))


async def test_where_the_beginning_cannot_be_shared_that_is_told_and_not_tried_again(nest: Nest) -> None:
    text = "import threading, time; threading.Thread(target=time.sleep, args=(9,), daemon=True).start()"
    zygote = nest.zygote(begin=(nest.module("threads", text),))
    nest.zygotes.warm(zygote)
    await until(lambda: asyncio.sleep(0, bool(nest.zygotes.trouble(zygote))))
    assert "it starts threads (1)" in nest.zygotes.trouble(zygote)
    output = os.open(os.devnull, os.O_WRONLY)
    assert await nest.fork(zygote, [*zygote.python, "-c", ""], zygote.env, nest.folder, output) is None
    os.close(output)
    assert nest.zygotes._line(zygote).running is None


@pytest.mark.parametrize("text", ["while True: print('x' * 9999)", "import time; time.sleep(60)"])
async def test_a_module_that_takes_too_long_is_left_out(nest: Nest, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AHEAD", 0.5)
    zygote = nest.zygote(nest.module("endless", text), nest.module("later", ""))
    await nest.ready(zygote)
    assert nest.zygotes.ahead(zygote).modules == ("later",)
    assert "takes longer" in nest.zygotes.ahead(zygote).left_out["endless"]


@pytest.mark.parametrize(
    ("prepare", "env", "why"),
    [
        ({}, {}, ""),
        ({}, {"LANGUAGE": "de", "PYTHONSTARTUP": "x", "LC_CTYPE": "C.UTF-8"}, "LC_CTYPE is set differently"),
        ({"program/ahead.py": "taken = 'other'"}, {}, "the working folder has a ahead of its own"),
        ({}, {"OMP_NUM_THREADS": "1"}, "OMP_NUM_THREADS is set differently"),
        ({}, {"AHEAD": "other"}, "AHEAD is set differently"),
        ({}, {"PYTHONHASHSEED": "1"}, "PYTHONHASHSEED is set differently"),
    ],
)
async def test_in_other_circumstances_it_is_executed_as_usual(
    nest: Nest, prepare: Mapping[str, str], env: dict[str, str], why: str
) -> None:
    nest.module("ahead", "import os\ntaken = os.environ.get('AHEAD')")
    zygote = nest.zygote("ahead")
    await nest.ready(zygote)
    place = nest.folder / "program"
    place.mkdir()
    for name, text in prepare.items():
        if "/" in name:
            (nest.folder / name).write_text(text)
    script = place / "program.py"
    script.write_text("import ahead, os\nprint(ahead.taken, os.environ.get('OMP_NUM_THREADS'))")
    read, write = os.pipe()
    child = await nest.fork(zygote, [*zygote.python, str(script)], {**zygote.env, **env}, place, write)
    os.close(write)
    assert child is not None
    assert await child.release() is None
    with os.fdopen(read) as said:
        lines = (await asyncio.to_thread(said.read)).splitlines()
    assert (lines[0] == f"[studiolo] started without forking: {why}") == bool(why)
    expected = "other" if env.get("AHEAD") or "program/ahead.py" in prepare else "None"
    assert lines[-1] == f"{expected} {env.get('OMP_NUM_THREADS')}"


async def test_one_that_is_killed_hangs_or_ends_is_replaced(nest: Nest) -> None:
    zygote = nest.zygote()
    for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM):
        await nest.ready(zygote)
        running = nest.zygotes._line(zygote).running
        assert running is not None
        os.kill(running.process.pid, number)
        output = os.open(os.devnull, os.O_WRONLY)
        child = await nest.fork(zygote, [*zygote.python, "-c", ""], zygote.env, nest.folder, output, patience=0.0)
        os.close(output)
        assert child is None
        assert (await nest.outcome(zygote, "print('fine')"))[0] == "fine\n"
        assert not running.process.alive


async def test_one_that_grows_is_replaced(nest: Nest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GROWTH", 1 << 20)
    leaks = """
import signal
kept = []
signal.signal(signal.SIGALRM, lambda *_: kept.append(bytearray(b"x" * (1 << 20))))
signal.setitimer(signal.ITIMER_REAL, 0.3, 0.05)
"""
    zygote = nest.zygote(begin=(nest.module("leaks", leaks),))
    await nest.ready(zygote)
    running = nest.zygotes._line(zygote).running
    assert running is not None

    async def replaced() -> bool:
        await nest.zygotes.tend()
        return nest.zygotes._line(zygote).running is not running

    await until(replaced)
    await until(lambda: asyncio.sleep(0, not running.process.alive))


async def test_where_memory_is_short_none_is_kept(nest: Nest, monkeypatch: pytest.MonkeyPatch) -> None:
    zygote = nest.zygote()
    await nest.ready(zygote)
    monkeypatch.setattr(procfs, "available", lambda: 1 << 20)
    await nest.zygotes.tend()
    assert not nest.zygotes.ahead(zygote).ready
    nest.zygotes.warm(zygote)
    assert nest.zygotes._line(zygote).running is None


async def test_one_that_nobody_wants_any_more_ends(nest: Nest) -> None:
    zygote = nest.zygote()
    await nest.ready(zygote)
    running = nest.zygotes._line(zygote).running
    assert running is not None
    nest.zygotes._line(zygote).wanted_until = 0.0
    await nest.zygotes.tend()
    assert not running.process.alive


async def test_one_whose_python_was_deleted_gives_no_child(nest: Nest, tmp_path: Path) -> None:
    python = tmp_path / "bin/python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    zygote = replace(nest.zygote(), python=(str(python),))
    await nest.ready(zygote)
    python.unlink()
    output = os.open(os.devnull, os.O_WRONLY)
    assert await nest.fork(zygote, [str(python), "-c", ""], zygote.env, nest.folder, output, patience=0.0) is None
    os.close(output)


async def test_where_it_may_not_fork_an_app_starts_as_usual(local: Bench) -> None:
    local.forked = True
    first = await local.up(local.launch("w1"))
    await local.backend.stop("w1", 1.0)
    pid = next(iter(_zygotes_below(_agent(local))))
    groups = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    if not any(line.split(":")[1] == "pids" and "studiolo" in line for line in groups):
        pytest.skip("this machine has no control group that limits the number of processes (version 1)")
    folder = next(line.split(":")[2] for line in groups if line.split(":")[1] == "pids")
    limit = Path("/sys/fs/cgroup/pids" + folder) / "pids.max"
    limit.write_text("0")
    again = await local.up(local.launch("w1", "run-2"))
    assert first.apps[0].state == again.apps[0].state == "ready"
    assert again.apps[0].restarts == 0


async def test_a_killed_agent_takes_its_zygotes_along_and_no_app(local: Bench) -> None:
    local.forked = True
    before = await local.up(local.launch("w1"))
    zygotes = [Identity.of(pid) for pid in _zygotes_below(_agent(local))]
    assert zygotes
    os.kill(_agent(local), signal.SIGKILL)
    await until(lambda: asyncio.sleep(0, not any(zygote is not None and zygote.alive for zygote in zygotes)))
    await local.backend.ensure()
    after = await local.ready("w1")
    assert after.apps[0].pid == before.apps[0].pid
    assert after.apps[0].restarts == 0


async def test_what_an_older_agent_has_written_down_is_adopted(local: Bench) -> None:
    before = await local.up(local.launch("w1"))
    os.kill(_agent(local), signal.SIGKILL)
    path = local.layout.run / "agent" / "w1.json"
    record = json.loads(path.read_text())
    del record["kernels"], record["launch"]["kernels"], record["launch"]["apps"][0]["zygote"]
    path.write_text(json.dumps(record))
    await local.backend.ensure()
    after = await local.ready("w1")
    assert after.apps[0].pid == before.apps[0].pid


async def test_an_agent_that_ends_leaves_no_zygote(local: Bench) -> None:
    local.forked = True
    await local.up(local.launch("w1"))
    zygotes = [Identity.of(pid) for pid in _zygotes_below(_agent(local))]
    assert zygotes
    await local.backend.shutdown()
    await until(lambda: asyncio.sleep(0, not any(zygote is not None and zygote.alive for zygote in zygotes)))
    assert not list((local.layout.run / "zygotes").glob("*"))
    await local.backend.ensure()


async def test_an_app_is_forked_where_python_itself_sets_the_locale(local: Bench) -> None:
    local.forked = True
    await local.up(local.launch("w1"))
    log = local.layout.workspace_logs("w1") / "web.log"
    assert "without forking" not in log.read_text()


async def test_how_a_forked_app_ended_is_known(local: Bench) -> None:
    local.forked = True
    await local.start(local.launch("w1", "run-1", local.app("--behave", "exit-7")))
    app = await local.app_when(lambda app: app.state == "restarting")
    assert "exited with status 7" in app.reason


def _agent(bench: Bench) -> int:
    pid = bench.backend.agent_pid()  # type: ignore[attr-defined]
    assert isinstance(pid, int)
    return pid


def _zygotes_below(agent: int) -> list[int]:
    found = []
    for pid in Path(f"/proc/{agent}/task/{agent}/children").read_text().split():
        with contextlib.suppress(OSError):
            if b"zygote.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    return found
