"""Kernels of a real workspace, forked: for who uses one, everything is as if it had been started."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import built
from installation import ROOT, Installation, left_behind, until
from notebook import Kernel, a_kernel, client, hear, say, start

pytestmark = pytest.mark.timeout(900)

PACKAGES = (
    *("ipykernel", "numpy", "pandas", "matplotlib", "scikit-learn"),
    *("joblib", "nbclient", "jupyter-kernel-test", "ipywidgets", "plotly"),
)
FORKED = "(lambda o, g: o.getppid() == {agent} and g.get_freeze_count() > 0)(__import__('os'), __import__('gc'))"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    built.environment("uv", *PACKAGES)
    installation = Installation(tmp_path_factory.mktemp("studiolo") / "home")
    installation.up()
    yield installation
    installation.down()
    assert left_behind(installation.home) == []


class Lab:
    """A running workspace with JupyterLab, in a folder of its own."""

    def __init__(self, installed: Installation, name: str, folder: Path, **document: Any) -> None:
        folder.mkdir(parents=True)
        self.installed, self.name, self.folder = installed, name, folder
        wish = {"name": name, "apps": ["jupyterlab"], "environment": {"packages": list(PACKAGES)}, **document}
        self.id = installed.make(wish, repository=str(folder)).id
        installed.phase(name, "running", seconds=600)
        self.socket = installed.layout.app_sockets(self.id) / "jupyterlab.sock"
        self.home = installed.layout.workspace_home(self.id)
        self.overlay = self.home / ".studiolo/overlay"
        (self.packages,) = self.overlay.glob("lib/python3.*/site-packages")
        until(self.forks, 240, f"a zygote of {name}")

    def forks(self) -> bool:
        with a_kernel(self.socket) as kernel:
            return self.has_forked(kernel)

    def has_forked(self, kernel: Kernel) -> bool:
        return bool(kernel.value(FORKED.format(agent=self.installed.pid("agent"))))

    def python(self, program: str, *words: str, forked: bool = True) -> Any:
        """What a program prints last, as JSON; it is run by the workspace's Python, as in a terminal."""
        (self.folder / "program.py").write_text(program)
        plain = () if forked else ("env", "-u", "STUDIOLO_KERNELS")
        done = self.installed.run("exec", self.name, "--", *plain, "python", "program.py", *words)
        return json.loads(done.stdout.splitlines()[-1])

    def server(self) -> int:
        """The process that listens on the app's socket."""
        with socket.socket(socket.AF_UNIX) as there:
            there.connect(str(self.socket))
            pid, _, _ = struct.unpack("3i", there.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(pid)


@pytest.fixture(scope="module")
def lab(installed: Installation, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(installed, "lab", tmp_path_factory.mktemp("repositories") / "lab", env={"ONLY_LABS": "hers"})


@pytest.fixture(scope="module")
def other(installed: Installation, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(installed, "other", tmp_path_factory.mktemp("repositories") / "other", env={"ONLY_OTHERS": "his"})


@pytest.fixture
def kernel(lab: Lab) -> Iterator[Kernel]:
    """A new one that has been forked."""
    with a_kernel(lab.socket) as kernel:
        assert lab.has_forked(kernel)
        yield kernel


# ---- as ever, for who uses it ----------------------------------------------------------------------------------------


def test_a_cell_prints_asks_and_runs_programs(kernel: Kernel, lab: Lab) -> None:
    assert kernel.run("6 * 7").result == "42"
    assert kernel.run("!echo $ONLY_LABS; exit 0").printed.split() == ["hers"]
    assert kernel.run("print(input('who? '))", typed="Ada").printed.endswith("Ada\n")
    assert kernel.run("%env ADDED=1\n%env ADDED").result == "'1'"
    assert kernel.run("import subprocess; subprocess.run(['sh', '-c', 'echo out; echo $ADDED; exit 3'])").result
    assert kernel.value("subprocess.run('echo $ADDED', shell=True, capture_output=True, text=True).stdout") == "1\n"
    assert kernel.run("import asyncio; await asyncio.sleep(0.01, 'slept')").result == "'slept'"
    assert kernel.run(
        "p = await asyncio.create_subprocess_exec('echo', 'hi', stdout=-1); (await p.communicate())[0]"
    ).result == repr(b"hi\n")
    assert kernel.value("__import__('os').getcwd()") == str(lab.folder)


def test_it_says_what_it_uses_and_has_a_debugger(kernel: Kernel) -> None:
    used = kernel.ask("usage_request", {})
    assert used["pid"] == kernel.value("__import__('os').getpid()")
    assert used["kernel_memory"] > 0
    arguments = {"clientID": "test", "adapterID": "", "pathFormat": "path"}
    request = {"type": "request", "command": "initialize", "seq": 1, "arguments": arguments}
    answer = kernel.ask("debug_request", request)
    assert answer["success"] is True, answer
    assert answer["body"]["supportsConfigurationDoneRequest"]


def test_a_breakpoint_stops_it(kernel: Kernel) -> None:
    def debug(command: str, **arguments: Any) -> dict[str, Any]:
        request = {"type": "request", "command": command, "seq": 1, "arguments": arguments}
        return kernel.ask("debug_request", request)

    assert debug("initialize", clientID="test", adapterID="", pathFormat="path")["success"]
    assert debug("attach")["success"]
    code = "a = 1\nb = a + 1\nprint(b)"
    path = debug("dumpCell", code=code)["body"]["sourcePath"]
    assert debug("setBreakpoints", source={"path": path}, breakpoints=[{"line": 2}])["success"]
    assert debug("configurationDone")["success"]
    with kernel.listening() as channel:
        request = say(channel, "execute_request", {"code": code, "silent": False})
        while True:
            message = json.loads(channel.recv(60))
            if message["msg_type"] == "debug_event" and message["content"]["event"] == "stopped":
                break
        assert debug("continue", threadId=message["content"]["body"]["threadId"])["success"]
        assert hear(channel, request).printed == "2\n"
    assert debug("disconnect", restart=False, terminateDebuggee=True)["success"]


def test_it_is_interrupted(kernel: Kernel) -> None:
    with kernel.listening() as channel:
        request = say(
            channel, "execute_request", {"code": "print('on'); import time; time.sleep(600)", "silent": False}
        )
        while json.loads(channel.recv(60))["msg_type"] != "stream":
            pass
        kernel.interrupt()
        assert hear(channel, request).error.startswith("KeyboardInterrupt")
    assert kernel.run("1 + 1").result == "2"


def test_it_shuts_down_with_what_it_had_started(lab: Lab) -> None:
    kernel = start(lab.socket)
    assert lab.has_forked(kernel)
    farewell = lab.folder / "farewell"
    kernel.run(f"import atexit, pathlib; _ = atexit.register(pathlib.Path({str(farewell)!r}).write_text, 'bye')")
    pid = kernel.value("__import__('os').getpid()")
    kernel.shut_down()
    until(lambda: not psutil.pid_exists(pid), 10, "its end")
    assert farewell.read_text() == "bye"


@pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), 9)", "os.abort()"])
def test_a_crash_is_noticed_and_it_is_there_again(lab: Lab, end: str) -> None:
    with a_kernel(lab.socket) as kernel:
        before = kernel.value("__import__('os').getpid()")
        with kernel.listening() as channel:
            say(channel, "execute_request", {"code": f"import os; {end}", "silent": False})
            while True:
                message = json.loads(channel.recv(60))
                if message["content"].get("execution_state") in ("restarting", "autorestarting", "dead"):
                    break
        assert message["content"]["execution_state"] != "dead"
        assert kernel.value("__import__('os').getpid()") != before
        assert lab.has_forked(kernel)


def test_fifty_restarts_leave_nothing_behind(lab: Lab) -> None:
    server, agent = psutil.Process(lab.server()), psutil.Process(lab.installed.pid("agent"))
    runtime = lab.installed.layout.app_state(lab.id, "jupyterlab") / "runtime"

    def kept() -> dict[str, Any]:
        mine = agent.children(recursive=True)
        return {
            "processes": len(mine),
            "zombies": sum(each.status() == psutil.STATUS_ZOMBIE for each in mine),
            "ports": sum(each.status == "LISTEN" for one in mine for each in one.net_connections("tcp")),
            "open in the agent": agent.num_fds(),
            "files": len(list(runtime.iterdir())),
        }

    assert lab.forks()
    idle = server.num_fds()
    with a_kernel(lab.socket) as kernel:
        kernel.restart()
        before = kept()
        seen = set()
        for _ in range(50):
            kernel.restart()
            seen.add(kernel.value("__import__('os').getpid()"))
        assert len(seen) == 50
        assert lab.has_forked(kernel)
        # What has ended may take a moment to be put away.
        until(lambda: kept() == before, 20, f"{kept()} like {before}")
    until(lambda: server.num_fds() <= idle, 20, f"{server.num_fds()} open files like {idle}")


# ---- what it finds ---------------------------------------------------------------------------------------------------

# Everything that a program could tell a forked kernel by; run in one, and printed by who started it.
LOOK = r"""
def _look():
    import decimal, gc, locale, logging, multiprocessing, os, re, resource, signal, site, sys, sysconfig, threading
    import time, warnings
    import ipywidgets, matplotlib.pyplot, numpy, pandas, plotly.express, scipy.stats, sklearn.ensemble
    import sklearn.linear_model, sklearn.metrics, sklearn.model_selection, sklearn.pipeline, sklearn.preprocessing
    matplotlib.pyplot.figure()
    shell, display = get_ipython(), pandas.options.display
    threads = [thread.name for thread in threading.enumerate() if "Poller" not in type(thread).__name__]
    status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
    files = sorted(os.readlink(f"/proc/self/fd/{n}").partition(":")[0] for n in os.listdir("/proc/self/fd")
                   if os.path.lexists(f"/proc/self/fd/{n}"))
    stat = open("/proc/self/stat").read().rpartition(")")[2].split()
    return {
        "argv": sys.argv[:-1], "orig_argv": sys.orig_argv[:-1], "executable": sys.executable, "path": sys.path,
        "prefixes": [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix],
        "flags": str(sys.flags), "xoptions": sys._xoptions, "warnings": sorted(str(f) for f in warnings.filters),
        "site": [site.PREFIXES, site.ENABLE_USER_SITE, site.USER_SITE], "scripts": sysconfig.get_paths(),
        "env": {k: v for k, v in os.environ.items() if k not in ("STUDIOLO_KERNELS", "JPY_PARENT_PID")},
        "cmdline": open("/proc/self/cmdline").read().rstrip("\0").split("\0")[:-1], "comm": status["Name"],
        "cwd": os.getcwd(), "umask": status["Umask"], "ids": [os.getuid(), os.getgid(), os.getgroups()],
        "signals": [status["SigBlk"], status["SigIgn"], status["SigCgt"]], "nice": os.nice(0),
        "handlers": {n: repr(signal.getsignal(n)).partition(" at ")[0] for n in (2, 13, 15, 17)},
        "limits": [resource.getrlimit(getattr(resource, n)) for n in dir(resource) if n.startswith("RLIMIT_")],
        "leader": [os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid(), stat[4]],
        "oom": open("/proc/self/oom_score_adj").read(), "affinity": sorted(os.sched_getaffinity(0)),
        "threads": sorted(re.sub(r"-\d+", "", name) for name in threads),
        "files": [f for f in files if f in ("pipe", "socket", "anon_inode") or f.startswith("/dev")],
        "locale": [locale.setlocale(locale.LC_ALL, None), time.tzname, sys.getfilesystemencoding()],
        "gc": [gc.isenabled(), gc.get_threshold(), gc.get_debug()], "recursion": sys.getrecursionlimit(),
        "switch": sys.getswitchinterval(), "decimal": str(decimal.getcontext()), "tracing": str(sys.gettrace()),
        "logging": [logging.root.level, [type(h).__name__ for h in logging.root.handlers], logging.raiseExceptions],
        "main": sorted(n for n in vars(sys.modules["__main__"]) if n not in ("_look", "_i", "_ii", "_iii")),
        "meta path": [getattr(f, "__name__", type(f).__name__) for f in sys.meta_path],
        "hooks": [sys.excepthook is sys.__excepthook__, type(sys.stdout).__name__, type(sys.displayhook).__name__],
        "input": [sys.__stdin__.fileno(), sys.__stdin__.read(), sys.__stdin__.encoding],
        "output": [sys.__stdout__.fileno(), sys.__stdout__.encoding, sys.__stdout__.line_buffering],
        "ipython": [re.sub(r"/tmp\w+.json", "", str(shell.config)), sorted(shell.magics_manager.magics["line"])],
        "hooked": {name: sorted(f.__qualname__ for f in found) for name, found in shell.events.callbacks.items()},
        "matplotlib": [matplotlib.get_backend(), matplotlib.get_cachedir(), matplotlib.is_interactive()],
        "rc": {k: str(v) for k, v in matplotlib.rcParams.items()},
        "widgets": sorted(shell.kernel.comm_manager.targets), "plotly": plotly.io.renderers.default,
        "numpy": [str(numpy.get_printoptions()), numpy.geterr()], "sklearn": str(sklearn.get_config()),
        "pandas": {n: str(getattr(display, n)).lower().partition(" at ")[0] for n in dir(display)},
        "multiprocessing": multiprocessing.get_start_method(),
        "seeds": sys.hash_info.algorithm,
    }
import json as _json; print(_json.dumps(_look(), default=repr))
"""

DRIVER = r"""
import json, os, sys
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(kernel_name="python3", cwd=os.getcwd())
printed = []
def hear(message):
    if message["msg_type"] == "stream": printed.append(message["content"]["text"])
reply = client.execute_interactive(open(sys.argv[1]).read(), output_hook=hear, allow_stdin=False, timeout=60)
client.stop_channels()
manager.shutdown_kernel()
assert reply["content"]["status"] == "ok", reply["content"]
print("".join(printed).rstrip())
"""


def test_a_program_cannot_tell_it_from_one_that_was_started(lab: Lab) -> None:
    (lab.folder / "look.txt").write_text(LOOK)
    forked = lab.python(DRIVER, "look.txt")
    started = lab.python(DRIVER, "look.txt", forked=False)
    assert {name: found for name, found in forked.items() if found != started[name]} == {
        name: started[name] for name, found in forked.items() if found != started[name]
    }


def test_a_notebook_that_a_program_runs_is_forked(lab: Lab) -> None:
    (lab.folder / "who.txt").write_text(f"print(int({FORKED.format(agent=lab.installed.pid('agent'))}))")
    assert lab.python(DRIVER, "who.txt") == 1
    assert lab.python(DRIVER, "who.txt", forked=False) == 0


def test_a_notebook_that_is_run_from_a_terminal_is_forked(lab: Lab) -> None:
    (lab.folder / "who.txt").write_text(f"print(int({FORKED.format(agent=lab.installed.pid('agent'))}))")
    variables = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "TERM_PROGRAM": "vscode", "SHLVL": "1", "_": "x"}
    terminal = {**variables, "LS_COLORS": "x", "COLUMNS": "100", "LINES": "50", "PAGER": "less", "EDITOR": "vi"}
    assert lab.python(f"import os; os.environ.update({terminal})\n{DRIVER}", "who.txt") == 1


def test_a_notebook_that_a_notebook_runs_is_forked(kernel: Kernel, lab: Lab) -> None:
    # The outer kernel has set variables while it started, which the inner one inherits.
    (lab.folder / "inner.txt").write_text(f"print(int({FORKED.format(agent=lab.installed.pid('agent'))}))")
    printed = kernel.run(f"import sys; sys.argv = ['', 'inner.txt']\n{DRIVER}").printed
    assert printed.splitlines()[-1] == "1", printed


# What a kernel inherits from the program that starts it.
INHERITED = """
import json, os, resource
print(json.dumps([open("/proc/self/status").read().partition("Umask:\\t")[2][:4], os.nice(0),
  len(os.sched_getaffinity(0)), resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_AS),
  int(FORKED)]))
"""


@pytest.mark.parametrize(
    ("change", "forked"),
    [
        ("os.umask(0o027)", True),
        ("resource.setrlimit(resource.RLIMIT_NOFILE, (500, 600))", True),
        ("resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 41))", False),
        ("os.nice(1)", False),
        ("os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])", False),
    ],
)
def test_it_inherits_what_its_program_has_set(lab: Lab, change: str, forked: bool) -> None:
    if "affinity" in change and len(os.sched_getaffinity(0)) == 1:
        pytest.skip("this machine has one processor")
    look = FORKED.format(agent=lab.installed.pid("agent"))
    (lab.folder / "inherited.txt").write_text(INHERITED.replace("FORKED", look))
    program = f"import os, resource; {change}\n" + DRIVER
    *found, was_forked = lab.python(program, "inherited.txt")
    *expected, was_started = lab.python(program, "inherited.txt", forked=False)
    assert found == expected
    assert (was_forked, was_started) == (forked, False)


def test_how_it_ended_is_known(lab: Lab) -> None:
    program = """
import json, os, signal, sys, time
from jupyter_client.manager import start_new_kernel
ended = []
for code in ("import os; os._exit(7)", "exit()", "import os; os.kill(os.getpid(), 9)", "import os; os.abort()"):
    manager, client = start_new_kernel(kernel_name="python3")
    assert type(manager.provisioner.process).__name__ == "Forked"
    client.execute(code)
    ended.append(manager.provisioner.process.wait(30))
    client.stop_channels()
    manager.cleanup_resources()
print(json.dumps(ended))
"""
    assert lab.python(program) == [7, 0, -signal.SIGKILL, -signal.SIGABRT]


def test_startup_files_are_run(lab: Lab) -> None:
    (lab.folder / "startup.py").write_text("started_up = 'PYTHONSTARTUP'")
    startup = lab.home / ".ipython/profile_default/startup"
    startup.mkdir(parents=True, exist_ok=True)
    (startup / "00-mine.py").write_text("from_profile = 'profile'")
    (lab.packages / "sitecustomize.py").write_text("import os; os.environ['SITE'] = 'customized'")
    (lab.packages / "usercustomize.py").write_text("raise RuntimeError('it is nobody's in a virtual environment')")
    (lab.packages / "zz-mine.pth").write_text("import sys; sys.from_pth = 'pth'\n")
    code = (
        "import os, sys, json; more = 'usercustomize' in sys.modules\n"
        "print(json.dumps([started_up, from_profile, os.environ['SITE'], sys.from_pth, more]))"
    )
    (lab.folder / "code.txt").write_text(code)
    program = "import os; os.environ['PYTHONSTARTUP'] = 'startup.py'\n" + DRIVER
    try:
        for forked in (True, False):
            found = lab.python(program, "code.txt", forked=forked)
            assert found == ["PYTHONSTARTUP", "profile", "customized", "pth", False]
    finally:
        (startup / "00-mine.py").unlink()
        for name in ("sitecustomize.py", "usercustomize.py", "zz-mine.pth"):
            (lab.packages / name).unlink()


def test_python_path_is_searched_first(installed: Installation, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "far.py").write_text("x = 'far'")
    folder = tmp_path_factory.mktemp("repositories") / "paths"
    lab = Lab(installed, "paths", folder, env={"PYTHONPATH": f"{elsewhere}:near"})
    (folder / "near").mkdir()
    (folder / "near/close.py").write_text("x = 'close'")
    (folder / "code.txt").write_text("import sys, json, far, close; print(json.dumps([sys.path, far.x, close.x]))")
    found = lab.python(DRIVER, "code.txt")
    assert found == lab.python(DRIVER, "code.txt", forked=False)
    path, *imported = found
    assert imported == ["far", "close"]
    places = [path.index(str(each)) for each in (elsewhere, folder / "near", lab.packages)]
    assert places == sorted(places)
    with a_kernel(lab.socket) as kernel:
        assert lab.has_forked(kernel)
        assert kernel.value("__import__('sys').path") == path
    (folder / "near/pandas.py").write_text("__version__ = 'mine'")
    with a_kernel(lab.socket) as kernel:
        assert kernel.value("__import__('pandas').__version__") == "mine"


@pytest.mark.parametrize("where", ["overlay", "folder"])
def test_a_module_of_somebodys_own_wins_over_one_that_is_imported_already(lab: Lab, where: str) -> None:
    path = (lab.packages if where == "overlay" else lab.folder) / "pandas.py"
    path.write_text("__version__ = 'mine'")
    try:
        with a_kernel(lab.socket) as kernel:
            assert kernel.value("__import__('pandas').__version__") == "mine"
    finally:
        path.unlink()
    with a_kernel(lab.socket) as kernel:
        assert kernel.value("__import__('pandas').__version__") != "mine"
        assert lab.has_forked(kernel)


def test_a_package_that_is_added_is_found(lab: Lab) -> None:
    (lab.packages / "brand_new.py").write_text("x = 1")
    try:
        with a_kernel(lab.socket) as kernel:
            assert kernel.value("__import__('brand_new').x") == 1
            assert lab.has_forked(kernel)
    finally:
        (lab.packages / "brand_new.py").unlink()


# ---- processes of its own --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(kernel: Kernel, method: str) -> None:
    kernel.run(f"import multiprocessing; pool = multiprocessing.get_context({method!r}).Pool(2)")
    assert kernel.run("pool.map(abs, [-1, -2, -3])").result == "[1, 2, 3]"
    kernel.run("pool.close(); pool.join()")


def test_functions_of_a_module_beside_the_notebook_run_in_other_processes(lab: Lab) -> None:
    beside = lab.folder / "notebooks"
    beside.mkdir(exist_ok=True)
    (beside / "beside.py").write_text("def square(x): return x * x")
    with a_kernel(lab.socket, path="notebooks") as kernel:
        assert lab.has_forked(kernel)
        kernel.run("import multiprocessing, joblib, os, beside")
        for method in ("fork", "spawn", "forkserver"):
            code = (
                f"with multiprocessing.get_context({method!r}).Pool(2) as pool: print(pool.map(beside.square, [2, 3]))"
            )
            assert kernel.run(code).printed == "[4, 9]\n", method
        code = "joblib.Parallel(n_jobs=2, backend='loky')(joblib.delayed(beside.square)(x) for x in (2, 3))"
        assert kernel.run(code).result == "[4, 9]"
        # They look there also when the notebook has gone elsewhere.
        kernel.run("os.chdir('/')")
        code = "with multiprocessing.get_context('spawn').Pool(2) as pool: print(pool.map(beside.square, [2, 3]))"
        assert kernel.run(code).printed == "[4, 9]\n"


def test_linear_algebra_and_learning_compute_with_all_processors(lab: Lab) -> None:
    # What was imported ahead has lost its threads; it starts them again.
    code = """
import json, os, numpy, threadpoolctl
from sklearn.ensemble import HistGradientBoostingRegressor
def threads(): return len(os.listdir("/proc/self/task"))
draw = numpy.random.default_rng(1)
a, x = draw.normal(size=(1000, 1000)), draw.normal(size=1000)
before = threads()
right = bool(numpy.allclose(numpy.linalg.solve(a, a @ x), x) and numpy.allclose(a @ a.T, (a @ a.T).T))
after = threads()
model = HistGradientBoostingRegressor(max_iter=20, random_state=0).fit(a, x)
pools = sorted([pool["user_api"], pool["num_threads"]] for pool in threadpoolctl.threadpool_info())
said = [right, pools, threads() - after, model.predict(a[:5]).round(6).tolist()]
print(json.dumps([said, after - before]))
"""
    (lab.folder / "computing.txt").write_text(code)
    found, begun = lab.python(DRIVER, "computing.txt")
    assert [found, 0] == lab.python(DRIVER, "computing.txt", forked=False)
    assert found[0] is True
    assert (begun > 0) == (len(os.sched_getaffinity(0)) > 1)


def test_what_a_kernel_forks_has_its_shell(kernel: Kernel) -> None:
    kernel.run(
        "import builtins, IPython, multiprocessing\n"
        "def shells(_): return [IPython.get_ipython() is shell, builtins.get_ipython() is shell]\n"
        "shell = get_ipython()\n"
        "with multiprocessing.get_context('fork').Pool(1) as pool: found = pool.map(shells, [0])"
    )
    assert kernel.value("found") == [[True, True]]


def test_what_computes_in_parallel(kernel: Kernel) -> None:
    kernel.run("from joblib import Parallel, delayed\ndef square(x): return x * x")
    for backend in ("loky", "multiprocessing", "threading"):
        found = kernel.run(f"Parallel(n_jobs=2, backend={backend!r})(delayed(square)(x) for x in range(4))")
        assert found.result == "[0, 1, 4, 9]", backend
    kernel.run("from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor")
    kernel.run("with ProcessPoolExecutor(2) as pool: print(list(pool.map(square, [2, 3])))")
    kernel.run("with ThreadPoolExecutor(2) as pool: print(list(pool.map(square, [2, 3])))")
    # Linear algebra starts its threads anew.
    assert (
        kernel.value("float(__import__('numpy').ones((900, 900)).dot(__import__('numpy').ones((900, 900))).sum())")
        == 729e6
    )


def test_a_cell_that_forks(kernel: Kernel) -> None:
    code = (
        "import os\nchild = os.fork()\nif child == 0: os._exit(5)\nos.waitstatus_to_exitcode(os.waitpid(child, 0)[1])"
    )
    assert kernel.run(code).result == "5"
    assert kernel.run("1 + 1").result == "2"


# ---- apart from each other -------------------------------------------------------------------------------------------

DRAW = """
import random, secrets, uuid, tempfile, os, json
import numpy
print(json.dumps([random.random(), float(numpy.random.rand()), float(numpy.random.default_rng().random()),
  str(uuid.uuid1()), str(uuid.uuid4()), secrets.token_hex(), tempfile.mktemp(),
  float(numpy.random.RandomState().rand()), random.Random().random(), random.SystemRandom().random(),
  os.urandom(8).hex()]))
"""


def test_two_workspaces_have_nothing_in_common(lab: Lab, other: Lab) -> None:
    with a_kernel(lab.socket) as hers, a_kernel(lab.socket) as hers_too, a_kernel(other.socket) as his:
        assert lab.has_forked(hers)
        assert other.has_forked(his)
        drawn = [json.loads(kernel.run(DRAW).printed) for kernel in (hers, hers_too, his)]
        for numbers in zip(*drawn, strict=True):
            assert len(set(numbers)) == 3, numbers
        mine, theirs = (kernel.value("dict(__import__('os').environ)") for kernel in (hers, his))
        assert mine["ONLY_LABS"] == "hers"
        assert theirs["ONLY_OTHERS"] == "his"
        assert "ONLY_OTHERS" not in mine
        assert "ONLY_LABS" not in theirs
        # Nor in what /proc shows of them, or of what was there before they were.
        assert lab.name not in str(theirs).replace("jupyterlab", "")
        pid = his.value("__import__('os').getpid()")
        assert b"ONLY_LABS" not in Path(f"/proc/{pid}/environ").read_bytes()
        assert his.value("__import__('os').path.expanduser('~')") == str(other.home)
        assert his.value("__import__('matplotlib').get_configdir()").startswith(str(other.home))
        assert his.value("__import__('pathlib').Path.home().as_posix()") == str(other.home)


# ---- bad days --------------------------------------------------------------------------------------------------------


def test_a_kernel_ends_with_its_server(other: Lab) -> None:
    kernel = start(other.socket)
    assert other.has_forked(kernel)
    pid = kernel.value("__import__('os').getpid()")
    server = other.server()
    os.kill(server, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(pid), 10, "the end of its kernel")
    until(lambda: _answers(other.socket) and other.server() != server, 60, "another server")
    until(other.forks, 60, "a forked kernel")


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as attempt:
        if attempt.connect_ex(str(path)) != 0:
            return False
    with client(path) as server:
        return server.get("/api/status").status_code == 200


def test_a_kernel_outlives_the_agent_and_can_be_restarted(lab: Lab) -> None:
    with a_kernel(lab.socket) as kernel:
        assert lab.has_forked(kernel)
        pid = kernel.value("__import__('os').getpid()")
        kernel.run("precious = 1")
        lab.installed.kill("agent")
        assert kernel.run("precious + 1").result == "2"
        until(lambda: lab.installed.runs("agent"), 30, "another agent")
        assert kernel.run("precious + 2").result == "3"
        kernel.restart()
        assert kernel.value("'precious' in globals()") is False
        until(lambda: not psutil.pid_exists(pid), 10, "the end of the first")
    until(lab.forks, 120, "a forked kernel")


def test_a_kernel_that_nobody_waits_for_any_more_is_ended(lab: Lab) -> None:
    with a_kernel(lab.socket) as kernel:
        env = kernel.value("dict(__import__('os').environ)")
    agent = lab.installed.pid("agent")
    argv = [f"{lab.overlay}/bin/python", "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", f"{lab.folder}/late"]

    def late() -> list[int]:
        found = psutil.process_iter(["pid", "cmdline"])
        return [each.pid for each in found if f"{lab.folder}/late" in (each.info["cmdline"] or ())]

    os.kill(agent, signal.SIGSTOP)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door, tempfile.TemporaryFile() as request:
            door.connect(str(lab.socket.with_name("kernels")))
            request.write(json.dumps({"argv": argv, "env": env, "cwd": str(lab.folder)}).encode())
            request.flush()
            socket.send_fds(door, [b"kernel"], [0, 1, 2, request.fileno()])
    finally:
        os.kill(agent, signal.SIGCONT)
    assert lab.forks(), "by then it has heard both"
    until(lambda: late() == [], 10, "the end of the other")


# ---- the same, both ways ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forked", [True, False])
def test_jupyters_own_tests_of_a_kernel(lab: Lab, forked: bool) -> None:
    program = """
import json, unittest, jupyter_kernel_test
class Tests(jupyter_kernel_test.KernelTests):
    kernel_name = "python3"
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    code_page_something = "zip?"
    code_generate_error = "raise"
    code_inspect_sample = "print"
    completion_samples = [{"text": "zi", "matches": {"zip"}}, {"text": "pri", "matches": {"print"}}]
    complete_code_samples = ["1", "print('hello, world')", "def f(x):\\n  return x*2\\n\\n\\n"]
    incomplete_code_samples = ["print('''hello", "def f(x):\\n  x*2"]
    invalid_code_samples = ["import = 7q"]
    code_execute_result = [{"code": "1+2+3", "result": "6"}, {"code": "[n*n for n in (1, 2)]", "result": "[1, 4]"}]
    code_display_data = [{"code": "from IPython.display import *; display(HTML('<b>test</b>'))", "mime": "text/html"}]
    code_history_pattern = "1?2*"
    supported_history_operations = ("tail", "search")
    code_clear_output = "from IPython.display import clear_output; clear_output()"
    @classmethod
    def tearDownClass(cls):
        kinds.append(type(cls.km.provisioner.process).__name__)
        super().tearDownClass()
kinds = []
result = unittest.TextTestRunner().run(unittest.defaultTestLoader.loadTestsFromTestCase(Tests))
failed = [str(each) for each in result.failures + result.errors]
print(json.dumps([result.testsRun, [why for _, why in result.skipped], failed, kinds]))
"""
    count, skipped, failed, kinds = lab.python(program, forked=forked)
    assert failed == []
    assert skipped == ["History range not supported"]  # IPython counts sessions in a way of its own
    assert count >= 12
    assert kinds == ["Forked" if forked else "Popen"]


def test_the_example_runs_identically(lab: Lab) -> None:
    for name in ("penguins.ipynb", "penguins.csv"):
        (lab.folder / name).write_bytes((ROOT / "examples/penguins" / name).read_bytes())
    program = """
import json, nbformat
from nbclient import NotebookClient
notebook = nbformat.read("penguins.ipynb", 4)
client = NotebookClient(notebook, kernel_name="python3", timeout=300)
kinds = []
def look(**_): kinds.append(type(client.km.provisioner.process).__name__)
client.on_cell_start = look
client.execute()
print(json.dumps([sorted(set(kinds)), [cell.get("outputs") for cell in notebook.cells]]))
"""
    (forked, outputs), (started, expected) = lab.python(program), lab.python(program, forked=False)
    assert (forked, started) == (["Forked"], ["Popen"])
    assert sum(len(each or ()) for each in expected) >= 6
    assert outputs == expected
