"""The command as a person or a script runs it, against a small real server: what is printed, where, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client_server import FAILS, STAGES, State, serving, workspace
from studiolo.layout import Layout
from studiolo.problem import Conflict, Problem, WrongInput
from studiolo.resources import Block, Reason, UsagePoint, WorkspaceCreate

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def state() -> State:
    return State({"demo": workspace("demo")})


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "home")


@pytest.fixture
def run(layout: Layout, tmp_path: Path) -> Run:
    """Run the command without a terminal."""

    def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "studiolo", *words],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment(layout),
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def up(state: State, layout: Layout) -> Iterator[Layout]:
    with serving(state, layout) as layout:
        yield layout


def environment(layout: Layout) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return {**kept, "STUDIOLO_HOME": str(layout.home)}


def at_a_terminal(layout: Layout, *words: str, answer: str = "") -> tuple[int, str]:
    """Run the command on a terminal of its own, typing `answer`: exit status and what was to be seen."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "studiolo", *words]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(layout)) as child:
        os.close(theirs)
        os.write(ours, answer.encode())
        seen = b""
        # The terminal hangs up (EIO) once the command has closed its end.
        while piece := _read(ours):
            seen += piece
        status = child.wait(timeout=60)
    os.close(ours)
    return status, seen.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""


# Without a Studiolo ---------------------------------------------------------------------------------------------------


def test_nothing_runs_is_told_with_what_to_do(run: Run) -> None:
    done = run("ps")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "studiolo: Studiolo is not running\nhint: run `studiolo up`\n"


def test_programs_get_problems_as_json(run: Run) -> None:
    done = run("ps", "--json")
    assert done.returncode == 1
    (problem,) = json.loads(done.stdout)["problems"]
    assert problem["code"] == "not-running"
    assert "studiolo up" in done.stderr


def test_status_answers_when_nothing_runs(run: Run) -> None:
    done = run("status", "--json")
    assert done.returncode == 1
    status = json.loads(done.stdout)
    assert status["control_plane"] == status["edge"] == {"pid": None, "running": False}
    assert "not running" in run("status").stdout


def test_down_where_nothing_runs_is_done_already(run: Run) -> None:
    done = run("down")
    assert (done.returncode, done.stdout) == (0, "Nothing was running.\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sopt", "demo"], "No such command 'sopt'"),
        (["stop"], "Missing argument"),
        (["ps", "--jsn"], "No such option"),
        (["up", "--port", "99999"], "port"),
        (["compute", "frobnicate"], "No such command"),
    ],
)
def test_wrong_usage_ends_with_2_and_points_to_the_help(run: Run, words: list[str], message: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "--help`" in done.stderr
    assert "Traceback" not in done.stderr


def test_schema_and_version_need_nobody(run: Run) -> None:
    assert "properties" in json.loads(run("schema").stdout)
    assert json.loads(run("version", "--json").stdout)["version"] in run("version").stdout


# Workspaces -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("up")
def test_ps_lists_for_people_and_for_programs(run: Run, state: State) -> None:
    usage = UsagePoint(at=datetime.now(UTC), cpu=0.52, memory=3 * 2**30)
    state.workspaces["demo"] = workspace("demo", started=datetime.now(UTC), usage=usage, generation="abc")
    head, row = run("ps").stdout.splitlines()
    assert head.split() == ["NAME", "OWNER", "PROJECT", "PHASE", "FOR", "APPS", "CPU", "MEMORY"]
    assert row.split()[:4] == ["demo", "ada", "default", "running"]
    assert row.endswith("0.5  3.0 GiB")
    (found,) = json.loads(run("ps", "--json").stdout)
    assert {"name", "owner", "project", "phase", "backend", "apps", "generation"} <= set(found)
    assert {"name", "url"} <= set(found["apps"][0])


@pytest.mark.usefixtures("up")
def test_show_tells_why_it_failed(run: Run, state: State) -> None:
    reason = Reason(code="x", message="there is no package zzz", hint="check its spelling")
    state.workspaces["demo"] = workspace("demo", phase="failed", reason=reason)
    shown = run("show", "demo").stdout
    assert "there is no package zzz" in shown
    assert "check its spelling" in shown
    assert json.loads(run("show", "demo", "--json").stdout)["phase"] == "failed"


@pytest.mark.usefixtures("up")
def test_an_unknown_workspace_is_the_servers_word(run: Run) -> None:
    done = run("show", "nobody")
    assert done.returncode == 1
    assert done.stderr == "studiolo: there is no workspace nobody\nhint: run `studiolo ps`\n"


@pytest.mark.usefixtures("up")
def test_stop_and_start_wait_and_tell_the_stages(run: Run, state: State) -> None:
    state.starts = STAGES
    assert run("stop", "demo").stdout == "demo is stopped\n"
    started = run("start", "demo")
    assert started.stdout.splitlines() == ["  locked     1.2 s", "  ready      3.0 s  jupyterlab", "demo is running"]
    assert json.loads(run("stop", "demo", "--json").stdout)["phase"] == "stopped"


@pytest.mark.usefixtures("up")
def test_a_start_that_fails_says_why(run: Run, state: State) -> None:
    state.starts = FAILS
    done = run("restart", "demo")
    assert done.returncode == 1
    assert done.stderr == "studiolo: demo failed: nope-1 is not there\nhint: H\n"


@pytest.mark.usefixtures("up")
def test_a_start_that_somebody_stops_ends_the_waiting(run: Run, state: State) -> None:
    state.starts = [("stopped", {"phase": "stopped", "desired": "stopped"})]
    done = run("start", "demo")
    assert done.returncode == 1
    assert "meanwhile demo was asked to be stopped" in done.stderr


@pytest.mark.usefixtures("up")
def test_removing_is_refused_where_nobody_can_be_asked(run: Run, state: State) -> None:
    done = run("rm", "demo")
    assert done.returncode == 2
    assert "add --yes" in done.stderr
    assert "demo" in state.workspaces


@pytest.mark.usefixtures("up")
def test_removing_keeps_the_home_unless_told(run: Run, state: State) -> None:
    assert "its home is kept: /homes/demo" in run("rm", "demo", "--yes").stdout
    state.workspaces["demo"] = workspace("demo", phase="failed")
    assert run("rm", "demo", "--yes", "--purge").returncode == 0
    assert state.asked == [("delete", "id-demo", False), ("delete", "id-demo", True)]


def test_removing_asks_at_a_terminal(up: Layout, state: State) -> None:
    status, seen = at_a_terminal(up, "rm", "demo", answer="n\n")
    assert status == 1
    assert "keep its home /homes/demo? [y/N]" in seen
    assert "demo" in state.workspaces
    status, _ = at_a_terminal(up, "rm", "demo", answer="y\n")
    assert status == 0
    assert state.workspaces == {}


@pytest.mark.usefixtures("up")
def test_down_is_refused_while_workspaces_run(run: Run) -> None:
    done = run("down")
    assert done.returncode == 2
    assert "1 workspace is running" in done.stderr


@pytest.mark.usefixtures("up")
def test_logs_name_the_app_of_each_line(run: Run, state: State) -> None:
    assert run("logs", "demo", "--tail", "2").stdout == "jupyterlab | one\njupyterlab | two\n"
    assert state.asked == [("logs", "demo", None, False, 2)]
    assert run("logs", "demo", "--app", "jupyterlab").stdout == "one\ntwo\n"
    assert [json.loads(line)["text"] for line in run("logs", "demo", "--json").stdout.splitlines()] == ["one", "two"]


@pytest.mark.usefixtures("up")
def test_links_and_tokens_stand_alone_on_standard_output(run: Run, state: State) -> None:
    assert run("open", "demo", "vscode", "--print").stdout == "http://localhost:8800/sign-in/once\n"
    assert run("link").stdout == "http://localhost:8800/sign-in/once\n"
    assert run("token", "demo").stdout == "secret\n"
    assert json.loads(run("token", "demo", "vscode", "--json").stdout)["app"] == "vscode"
    assert state.asked[:2] == [("link", "demo", "vscode"), ("link", None, None)]


# exec -----------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("up")
def test_exec_passes_input_output_and_status_through(run: Run) -> None:
    piped = run("exec", "demo", "--", "cat", stdin="one\ntwo\n")
    assert (piped.returncode, piped.stdout) == (0, "one\ntwo\n")
    failed = run("exec", "demo", "--", "frobnicate", "--json")
    assert (failed.returncode, failed.stdout, failed.stderr) == (7, "", "frobnicate --json: not here\n")
    assert run("exec", "demo", "--").returncode == 2


def test_exec_on_a_terminal_asks_for_one(up: Layout) -> None:
    status, seen = at_a_terminal(up, "exec", "demo", "--", "frobnicate")
    assert status == 7
    assert "frobnicate: not here" in seen


# run ------------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("up")
def test_run_tells_stages_and_then_the_link(run: Run, state: State, tmp_path: Path) -> None:
    state.starts = STAGES
    done = run("run")
    assert done.returncode == 0, done.stderr
    name = tmp_path.name.replace("_", "-")[:30].strip("-")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("making ")
    assert [line.split()[0] for line in lines[1:-1]] == ["locked", "ready"]
    assert lines[-1] == "http://localhost:8800/sign-in/once"
    (wish,) = (asked for asked in state.asked if isinstance(asked, WorkspaceCreate))
    assert wish.repository == str(tmp_path)
    assert wish.document == {}
    assert not wish.replace
    assert name.startswith((wish.name or "")[:10])


@pytest.mark.usefixtures("up")
def test_run_again_takes_the_new_document(run: Run, state: State, tmp_path: Path) -> None:
    (tmp_path / "studiolo.yaml").write_text("name: again\n")
    assert run("run").returncode == 0
    done = run("run", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["workspace"]["name"] == "again"
    wishes = [asked for asked in state.asked if isinstance(asked, WorkspaceCreate)]
    assert [wish.replace for wish in wishes] == [False, True]


@pytest.mark.usefixtures("up")
def test_run_does_not_take_over_a_workspace_of_another_repository(run: Run, state: State) -> None:
    state.workspaces["demo"] = workspace("demo", repository="/elsewhere")
    done = run("run", "--name", "demo")
    assert done.returncode == Conflict.exit_status
    assert "for /elsewhere" in done.stderr
    assert "--name" in done.stderr


@pytest.mark.usefixtures("up")
def test_the_servers_problems_are_told_where_they_stand(run: Run, state: State, tmp_path: Path) -> None:
    (tmp_path / "studiolo.yaml").write_text("name: late\ndata: [nope]\n")
    state.refuses = WrongInput(
        Problem("unknown-block", "there is no nope", "there is raw", "data[0]"),
        Problem("x", "elsewhere", "", "repository"),
    )
    done = run("run")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"{tmp_path}/studiolo.yaml:2:8: data[0]: there is no nope; there is raw",
        "studiolo: repository: elsewhere",
    ]


def test_a_wrong_document_starts_nothing(run: Run, layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text("nam: x\ncompute: {memory: 8 GB}\n")
    done = run("run", "-f", "w.yaml")
    assert done.returncode == 2
    assert [line.split(": ")[0] for line in done.stderr.splitlines()] == ["w.yaml:1:1", "w.yaml:2:11"]
    assert not layout.home.exists()


# Blocks ---------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("up")
def test_blocks_are_stored_listed_shown_and_forgotten(run: Run, state: State, tmp_path: Path) -> None:
    state.blocks["compute", "cpu-small"] = Block(kind="compute", name="cpu-small", builtin=True, document={"cpu": 1.0})
    (tmp_path / "c.yaml").write_text("name: mine\ncpu: 2\nmemory: 8GiB\n")
    assert run("compute", "create", "-f", "c.yaml").stdout == "compute mine is stored\n"
    assert run("compute", "create", "other", "-f", "c.yaml").stdout == "compute other is stored\n"
    listed = run("compute", "ls").stdout
    assert "cpu-small  built in" in listed
    assert "mine       stored" in listed
    assert "name: mine" in run("compute", "show", "mine").stdout
    assert json.loads(run("compute", "show", "mine", "--json").stdout)["document"]["memory"] == "8GiB"
    assert run("compute", "rm", "mine").returncode == 2
    assert run("compute", "rm", "mine", "--yes").returncode == 0
    assert {name for _, name in state.blocks} == {"cpu-small", "other"}


@pytest.mark.usefixtures("up")
def test_a_data_block_keeps_its_folder_wherever_it_is_used(run: Run, state: State, tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text("name: raw\nfolder: files\n")
    assert run("data", "create", "-f", "d.yaml").returncode == 0
    assert state.blocks["data", "raw"].document["folder"] == str(tmp_path / "files")


@pytest.mark.usefixtures("up")
def test_a_wrong_block_is_told_by_line_and_stored_nowhere(run: Run, state: State, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("name: mine\ncpuu: 2\n")
    done = run("compute", "create", "-f", "c.yaml")
    assert done.returncode == 2
    assert done.stderr.startswith("c.yaml:2:1: cpuu: unknown key")
    assert run("compute", "create", "-f", "nowhere.yaml").returncode == 2
    assert state.blocks == {}
