"""Repositories from an address, and apps that are any HTTP program: a real Git over HTTPS, a real Streamlit."""

from __future__ import annotations

import http.server
import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from installation import Installation, echo, left_behind, until
from studiolo.control import repository


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None or shutil.which("git") is None:
        pytest.skip("making a certificate for localhost needs openssl, and cloning needs git")
    pem = tmp_path_factory.mktemp("certificate") / "localhost.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", pem.with_suffix(".key"), "-out", pem],
        check=True, capture_output=True,
    )  # fmt: skip
    return pem


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, certificate: Path) -> Iterator[Installation]:
    installation = Installation(tmp_path_factory.mktemp("studiolo") / "home")
    # As on a machine whose company has a certificate authority of its own.
    os.environ["GIT_SSL_CAINFO"] = str(certificate)
    try:
        installation.up()
    finally:
        del os.environ["GIT_SSL_CAINFO"]
    yield installation
    installation.down()
    assert left_behind(installation.home) == []


@pytest.fixture
def git_server(tmp_path: Path, certificate: Path) -> Iterator[str]:
    """An https:// address that serves a small repository with a requirements.txt."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "requirements.txt").write_text("six==1.17.0\n")
    (work / "README.md").write_text("# Tides\n")
    identity = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }

    def git(*words: str) -> None:
        subprocess.run(["git", *words], cwd=work, check=True, capture_output=True, env={**os.environ, **identity})

    git("init", "-b", "main")
    git("add", ".")
    git("commit", "-m", "first")
    git("clone", "--bare", ".", str(tmp_path / "served" / "Tides_2026.git"))
    subprocess.run(["git", "update-server-info"], cwd=tmp_path / "served" / "Tides_2026.git", check=True)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "served"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://localhost:{server.server_address[1]}/Tides_2026.git"
    server.shutdown()
    thread.join()
    server.server_close()


def test_run_clones_a_git_address_into_the_home(installed: Installation, git_server: str) -> None:
    done = installed.run("run", git_server, "--no-browser")
    assert "requirements.txt" in done.stdout + done.stderr
    (found,) = [each for each in installed.json("ps") if each["repository"] == git_server]
    assert found["name"] == "tides-2026"
    inside = installed.run(
        "exec", found["name"], "--", "python", "-c", "import six, os; print(six.__version__, os.getcwd())"
    )
    version, folder = inside.stdout.split()
    assert version == "1.17.0"
    assert Path(folder).parent == Path(found["home"])
    assert (Path(folder) / "README.md").read_text() == "# Tides\n"
    (Path(folder) / "mine.txt").write_text("work in progress")
    installed.run("restart", found["name"])
    assert (Path(folder) / "mine.txt").read_text() == "work in progress"


def test_a_streamlit_app_is_served_at_its_own_address(installed: Installation, tmp_path: Path) -> None:
    repository = tmp_path / "dash"
    repository.mkdir()
    (repository / "app.py").write_text("import streamlit as st\nst.title('Tides')\n")
    (repository / "studiolo.yaml").write_text(
        "environment: {packages: [streamlit]}\n"
        "apps:\n"
        "  - name: tides\n"
        "    kind: command\n"
        "    command: [streamlit, run, app.py, --server.port, '{port}', --server.address, 127.0.0.1,\n"
        "              --server.headless, 'true', --browser.gatherUsageStats, 'false']\n"
        "    ready: /_stcore/health\n"
    )
    installed.run("run", str(repository), "--no-browser", timeout=300)
    token = installed.token("dash", "tides")
    assert installed.get(token, "/_stcore/health").text == "ok"
    assert "Streamlit" in installed.get(token, "/").text


def test_an_extension_that_a_workspace_declares_gives_it_tools_of_its_own(installed: Installation) -> None:
    installed.make(
        {
            "name": "extended",
            "environment": {"packages": ["six"]},
            "apps": [echo(), {"name": "lab", "kind": "jupyterlab", "extensions": ["jupyterlab-execute-time"]}],
        }
    )
    installed.phase("extended", "running")
    before = installed.get(installed.token("extended", "echo")).text
    token = installed.token("extended", "lab")
    until(lambda: installed.get(token, "/lab").status_code == 200, 240, "JupyterLab joining what runs already")
    assert "jupyterlab-execute-time" in installed.get(token, "/lab").text
    assert installed.get(installed.token("extended", "echo")).text == before
    assert until(lambda: not installed.workspace("extended").progress, 10) is True


def test_what_is_kept_ready_has_the_clone_ahead(installed: Installation, git_server: str) -> None:
    document = {"repository": git_server, "environment": {"packages": ["six"]}, "apps": [echo()], "warm": 1}
    installed.make(document, name="one")
    until(lambda: (pool := installed.workspace("one").pool) and pool.ready == 1, 120, "a spare")
    two = installed.make(document, name="two")
    assert (two.phase, [app.state for app in two.apps]) == ("running", ["ready"])
    assert (Path(two.home) / "tides-2026" / "README.md").read_text() == "# Tides\n"
    assert [note for note in two.notes if "`git pull` brings what is newer" in note]
    for name in ("one", "two"):
        installed.run("rm", name, "--purge", "--yes")


async def test_a_repository_that_has_gone_on_is_noticed(
    git_server: str, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_SSL_CAINFO", str(certificate))
    home = tmp_path / "home"
    home.mkdir()
    folder = await repository.ensure(git_server, home)
    assert folder is not None
    first = await repository.head_in(folder, home)
    assert first is not None
    assert await repository.head_of(git_server, home) == first
    served = tmp_path / "served" / "Tides_2026.git"
    named = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*named, "commit", "--allow-empty", "-m", "more"], cwd=tmp_path / "work", check=True)
    subprocess.run(["git", "push", str(served), "main"], cwd=tmp_path / "work", check=True)
    subprocess.run(["git", "update-server-info"], cwd=served, check=True)
    assert await repository.head_in(folder, home) == first
    assert await repository.head_of(git_server, home) not in (None, first)
    shutil.rmtree(served)
    assert await repository.head_of(git_server, home) is None
