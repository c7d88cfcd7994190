"""The main job, from the command line to a running notebook, on the real parts."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from installation import COMMAND, ROOT, Installation, echo, left_behind, until


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    installation = Installation(tmp_path_factory.mktemp("studiolo") / "home")
    installation.up()
    yield installation
    installation.down()
    assert left_behind(installation.home) == []


def test_run_makes_a_workspace_out_of_a_repository(installed: Installation, tmp_path: Path) -> None:
    repository = tmp_path / "my-analysis"
    repository.mkdir()
    (repository / "requirements.txt").write_text("six==1.17.0\n")
    (repository / "studiolo.yaml").write_text("apps: [jupyterlab]\nenv: {GREETING: hello}\n")
    done = installed.run("run", str(repository))
    for stage in ("locked", "built", "started", "ready"):
        assert stage in done.stdout + done.stderr
    assert f"{installed.origin}/sign-in/" in done.stdout
    (found,) = [each for each in installed.json("ps") if each["name"] == "my-analysis"]
    assert found["phase"] == "running"
    assert found["backend"] == "local"
    assert found["apps"][0]["url"] == f"http://jupyterlab--my-analysis--{found['owner']}.localhost:{installed.port}/"
    assert found["generation"]

    token = installed.token("my-analysis")
    assert installed.get(token, "/api/status").status_code == 200
    kernels = installed.get(token, "/api/kernelspecs").json()
    assert list(kernels["kernelspecs"]) == ["python3"]
    assert kernels["kernelspecs"]["python3"]["spec"]["argv"][0].endswith("/.studiolo/overlay/bin/python")
    contents = installed.get(token, "/api/contents").json()
    assert "requirements.txt" in [each["name"] for each in contents["content"]]

    inside = installed.run(
        "exec", "my-analysis", "--", "python", "-c", "import six, os; print(six.__version__, os.environ)"
    )
    assert inside.stdout.startswith("1.17.0 ")
    assert "'GREETING': 'hello'" in inside.stdout
    assert "STUDIOLO_HOME" not in inside.stdout
    assert installed.run("exec", "my-analysis", "--", "sh", "-c", "exit 7", check=False).returncode == 7


def test_a_request_without_a_grant_never_reaches_an_app(installed: Installation) -> None:
    installed.make({"name": "walled", "apps": [echo()], "environment": {"packages": ["six"]}})
    installed.phase("walled", "running")
    token = installed.token("walled")
    assert installed.get(token).text.isdigit()
    host = token.url.split("/")[2]
    assert installed.request("GET", None, "/", host=host).status_code == 401
    for stranger in ("A" * 43, token.token[:-1] + ("A" if token.token[-1] != "A" else "B"), "../" + token.token):
        answer = installed.request("GET", None, "/", host=host, headers={"Authorization": f"token {stranger}"})
        assert answer.status_code == 401, stranger
    page = installed.request("GET", None, "/x?y=1", host=host, headers={"Accept": "text/html"})
    assert page.status_code == 303
    assert page.headers["location"].startswith(f"{installed.origin}/authorize?label=")


def test_the_api_refuses_who_is_not_signed_in(installed: Installation) -> None:
    schema = installed.request("GET", None, "/api/v1/openapi.json").json()
    checked = 0
    for path, methods in schema["paths"].items():
        if path == "/api/v1/health":
            continue
        concrete = path.replace("{ref}", "walled").replace("{kind}", "compute").replace("{name}", "cpu-small")
        for method in methods:
            answer = installed.request(method.upper(), None, concrete, json={} if method in ("post", "put") else None)
            assert answer.status_code == 401, f"{method} {path}"
            assert answer.headers["content-type"] == "application/problem+json"
            checked += 1
    assert checked > 15


def test_a_sign_in_link_works_once(installed: Installation) -> None:
    link = installed.json("open", "walled")["url"] if "walled" in str(installed.json("ps")) else installed.up()
    path = "/" + link.split("/", 3)[3]
    first = installed.request("GET", None, path)
    assert first.status_code == 303
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    again = installed.request("GET", None, path)
    assert again.status_code == 401
    assert "set-cookie" not in again.headers


def test_other_sites_cannot_change_anything(installed: Installation) -> None:
    link = installed.up()
    answer = installed.request("GET", None, "/" + link.split("/", 3)[3])
    session = answer.headers["set-cookie"].split(";")[0]
    for headers in (
        {"Origin": "http://evil.localhost"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {},  # from here, but without the token that only our pages know
    ):
        answer = installed.request(
            "POST", None, "/api/v1/workspaces/walled/stop", headers={"Cookie": session, **headers}
        )
        assert answer.status_code == 403, headers
    assert installed.workspace("walled").desired == "running"


def test_stop_and_wake_by_opening_the_link(installed: Installation) -> None:
    token = installed.token("walled")
    before = installed.get(token).text
    installed.run("stop", "walled")
    installed.phase("walled", "stopped")
    left_open = {"User-Agent": "Mozilla/5.0", "Accept": "*/*"}
    assert installed.get(token, headers=left_open).status_code == 503, "a page left open is told, and wakes nothing"
    assert installed.workspace("walled").phase == "stopped"
    page = installed.get(token, headers={"Accept": "text/html"})
    assert page.status_code == 200 or "walled" in page.text, "the app, or how far it is"
    installed.phase("walled", "running")
    assert installed.get(token).text not in ("", before)
    with installed.client() as client:
        assert "its link was opened" in [event.message for event in client.history("walled")]


def test_secrets_are_private(installed: Installation) -> None:
    for path in (installed.home / "token", installed.home / "studiolo.db"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(installed.home.stat().st_mode) == 0o700
    assert stat.S_IMODE(installed.layout.run.stat().st_mode) == 0o700
    token = installed.token("walled").token
    installed.get(installed.token("walled"))
    api = (installed.home / "token").read_text()
    for log in (installed.home / "logs").iterdir():
        text = log.read_text(errors="replace")
        assert token not in text, log
        assert api not in text, log


def test_rm_keeps_the_home_unless_told_otherwise(installed: Installation) -> None:
    for name, purge in (("kept", []), ("purged", ["--purge"])):
        installed.make({"name": name, "apps": [echo()], "environment": {"packages": ["six"]}})
        home = Path(installed.phase(name, "running").home)
        (home / "work.txt").write_text("mine")
        assert installed.run("rm", name, check=False).returncode == 2, "it asks, and nobody answers"
        installed.run("rm", name, "--yes", *purge)
        until(lambda name=name: name not in [each["name"] for each in installed.json("ps")], 30, "its end")  # type: ignore[misc]
        assert home.exists() != bool(purge)


def test_blocks_are_stored_and_referred_to_by_name(installed: Installation, tmp_path: Path) -> None:
    block = tmp_path / "tiny.yaml"
    block.write_text("name: tiny\ncpu: 1\nmemory: 1GiB\n")
    installed.run("compute", "create", "-f", str(block))
    assert "tiny" in [each["name"] for each in installed.json("compute", "ls")]
    installed.make({"name": "small", "apps": [echo()], "environment": {"packages": ["six"]}, "compute": "tiny"})
    shown = installed.phase("small", "running")
    assert shown.document["compute"]["cpu"] == 1
    installed.run("compute", "rm", "tiny", "--yes")
    assert installed.phase("small", "running").document["compute"]["cpu"] == 1, "it keeps what it was made with"


def test_problems_in_the_file_name_line_and_column(installed: Installation, tmp_path: Path) -> None:
    (tmp_path / "studiolo.yaml").write_text('name: Bad Name\ncompute:\n  memory: "8 GB"\n  cpus: 2\n')
    done = installed.run("run", str(tmp_path), check=False)
    assert done.returncode == 2
    assert "studiolo.yaml:1:" in done.stderr
    assert "studiolo.yaml:3:" in done.stderr
    assert "8GiB" in done.stderr
    assert "studiolo.yaml:4:" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_example_runs(installed: Installation, tmp_path: Path) -> None:
    example = tmp_path / "penguins"
    shutil.copytree(ROOT / "examples" / "penguins", example)
    installed.run("run", str(example), timeout=600)
    cells = (
        "import json; cells = json.load(open('penguins.ipynb'))['cells'];"
        "exec('\\n'.join(''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code'))"
    )
    assert "right about" in installed.run("exec", "penguins", "--", "python", "-c", cells, timeout=300).stdout


def test_up_is_idempotent_and_status_tells_the_pids(installed: Installation) -> None:
    before = installed.json("status")
    assert "/sign-in/" in installed.up()
    after = installed.json("status")
    for part in ("control_plane", "host_agent", "edge"):
        assert before[part]["pid"] == after[part]["pid"] > 0
        assert Path(f"/proc/{after[part]['pid']}").exists()


def test_two_ups_at_once_end_in_one_studiolo(tmp_path: Path) -> None:
    installation = Installation(tmp_path / "home")
    installation.home.mkdir()
    words = [str(COMMAND), "up", "--detach", "--no-browser", "--port", str(installation.port)]
    both = [
        subprocess.Popen(
            words, env=installation.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    try:
        for each in both:
            out, err = each.communicate(timeout=60)
            assert each.returncode == 0, out + err
            assert "/sign-in/" in out
        assert json.loads(installation.run("status", "--json").stdout)["control_plane"]["pid"]
    finally:
        installation.down()
    assert left_behind(installation.home) == []
