"""Workspaces in a repository's own flake: built by the real Nix, given up, killed half-way, never in the way."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from installation import ROOT, Installation, echo, left_behind, until

pytestmark = pytest.mark.skipif(shutil.which("nix") is None, reason="nix is not installed (Debian: nix-bin)")

# Builds with the system's shell, and not before a file is there.
SLOW = """{
  outputs = { self }: {
    packages.x86_64-linux.default = derivation {
      name = "slow-@version@";
      system = "x86_64-linux";
      builder = "/bin/bash";
      args = [ "-c" ''
        mkdir -p $out/bin
        echo waiting
        until [ -e @gate@ ]; do sleep 0.05; done
        cp ${./tool} $out/bin/tool
        exit 0
      '' ];
      PATH = "/usr/bin:/bin";
      token = "@token@";
    };
  };
}
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIX_CONFIG", "substituters =\nsandbox = false\nbuild-users-group =\nflake-registry = /dev/null")
        installation = Installation(tmp_path_factory.mktemp("studiolo") / "home")
        installation.up()
        yield installation
        installation.down()
        assert left_behind(installation.home) == []


def write(folder: Path, version: str, gate: Path) -> None:
    words = {"version": version, "gate": str(gate), "token": secrets.token_hex(8)}
    text = SLOW
    for name, value in words.items():
        text = text.replace(f"@{name}@", value)
    (folder / "flake.nix").write_text(text)
    (folder / "tool").write_text(f"#!/bin/sh\necho {version}\n")
    (folder / "tool").chmod(0o755)


def tool(installed: Installation, name: str) -> str:
    return installed.run("exec", name, "--", "tool").stdout.strip()


def building(installed: Installation, name: str) -> bool:
    return "waiting" in installed.run("env", "log", "-w", name, check=False).stdout


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the flake of this test is for x86_64")
def test_a_build_is_followed_given_up_and_survives_a_crash(installed: Installation, tmp_path: Path) -> None:
    folder = tmp_path / "slow"
    folder.mkdir()
    gate = tmp_path / "gate"
    gate.touch()
    write(folder, "1", gate)
    installed.make({"name": "slow", "apps": [echo()]}, repository=str(folder))
    installed.phase("slow", "running")
    assert tool(installed, "slow") == "1"

    gate.unlink()
    write(folder, "2", gate)
    installed.run("restart", "slow", "--no-wait")
    until(lambda: building(installed, "slow"), 60, "the build")
    assert tool(installed, "slow") == "1", "what ran goes on meanwhile"
    installed.run("env", "cancel", "-w", "slow")
    until(lambda: not installed.workspace("slow").renewing, 30, "the end of the build")
    installed.phase("slow", "running")
    assert tool(installed, "slow") == "1"

    installed.run("restart", "slow", "--no-wait")
    until(lambda: building(installed, "slow"), 60, "the build")
    installed.kill("control")
    gate.touch()
    installed.run("up", "--detach", "--port", str(installed.port), "--no-browser")
    until(lambda: not installed.workspace("slow").renewing, 60, "the build after the crash")
    installed.phase("slow", "running")
    assert tool(installed, "slow") == "2"

    (folder / "flake.nix").write_text("{ outputs = { self }: {\n  broken =\n}; }\n")
    done = installed.run("restart", "slow", check=False)
    assert done.returncode == 1
    assert "flake.nix:3:1" in done.stderr
    assert tool(installed, "slow") == "2"
    installed.run("env", "rollback", "1", "-w", "slow")
    assert tool(installed, "slow") == "1"


def test_the_example_has_its_tool_on_the_path(installed: Installation, tmp_path: Path) -> None:
    folder = tmp_path / "flake-hello"
    shutil.copytree(ROOT / "examples/flake-hello", folder)
    done = installed.run("run", str(folder), "--no-browser")
    assert "from flake.nix" in installed.workspace("flake-hello").environment, done.stdout
    inside = "command -v tally && nix build --no-link && echo built"
    printed = installed.run("exec", "flake-hello", "--", "sh", "-c", inside).stdout.splitlines()
    assert printed[0].endswith("/bin/tally")
    assert printed[-1] == "built"
    result = installed.json("env", "verify", "-w", "flake-hello")
    assert result["same"]
