"""What a process finds around it: environment, folder, files, mounts; and homes that cannot be written."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import ENV, Bench
from studiolo.backends.backend import Mount, SeedFile

needs_mount = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")


async def test_the_environment_is_exactly_the_one_given(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAK", "secret of the server")
    await bench.up(bench.launch())
    env = (await bench.get())["env"]
    env.pop("LC_CTYPE", None)  # Python itself sets this one
    assert env == {**ENV, "STUDIOLO_WORKSPACE": "w1", "STUDIOLO_RUN": "run-1"}


async def test_a_port_is_filled_in_where_it_is_asked_for(bench: Bench) -> None:
    env = {**ENV, "WHERE": "http://localhost:{port}/", "BRACES": "{other}"}
    await bench.up(bench.launch("w1", "run-1", bench.app(port=True, env=env)))
    env = (await bench.get())["env"]
    assert env["WHERE"].removeprefix("http://localhost:").rstrip("/").isdigit()
    assert env["BRACES"] == "{other}"


async def test_apps_start_in_their_folder_and_write_private_files(bench: Bench) -> None:
    await bench.up(bench.launch())
    assert (await bench.get())["cwd"] == str(bench.layout.workspace_home("w1"))
    socket = bench.layout.app_sockets("w1") / "web.sock"
    assert socket.stat().st_mode & 0o077 == 0
    log = bench.layout.workspace_logs("w1") / "web.log"
    assert log.stat().st_mode & 0o077 == 0


async def test_a_missing_folder_does_not_stop_a_start(bench: Bench) -> None:
    observation = await bench.up(bench.launch("w1", "run-1", bench.app(cwd="/nowhere/at/all")))
    assert (await bench.get())["cwd"] == str(bench.layout.workspace_home("w1"))
    assert any("/nowhere/at/all" in note for note in observation.notes)


async def test_seeds_are_written_and_kept_where_asked(bench: Bench) -> None:
    home = bench.layout.workspace_home("w1")
    home.mkdir(parents=True)
    (home / "mine").write_text("changed by me")
    (home / "ours").write_text("old")
    seeds = (
        SeedFile(str(home / "mine"), "default", keep=True),
        SeedFile(str(home / "ours"), "new", keep=False),
        SeedFile(str(home / "deep/in/here"), "first", keep=True),
    )
    observation = await bench.up(bench.launch(seeds=seeds))
    assert observation.notes == ()
    assert [(home / name).read_text() for name in ("mine", "ours", "deep/in/here")] == ["changed by me", "new", "first"]


async def test_mounts_appear_in_the_home_and_replace_nothing(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,b\n")
    home = bench.layout.workspace_home("w1")
    (home / "taken").mkdir(parents=True)
    (home / "taken/precious").write_text("mine")
    mounts = (Mount(str(tmp_path), "data/raw"), Mount(str(tmp_path), "taken"), Mount("/nowhere", "gone"))
    observation = await bench.up(bench.launch(mounts=mounts))
    assert (home / "data/raw/table.csv").read_text() == "a,b\n"
    assert (home / "taken/precious").read_text() == "mine"
    notes = " ".join(observation.notes)
    assert "taken" in notes
    assert "/nowhere does not exist" in notes
    assert "data/raw" not in notes
    again = await bench.up(bench.launch(run="run-2", mounts=(Mount(str(tmp_path / ".."), "data/raw"),)))
    assert again.notes == ()
    assert (home / "data/raw").readlink() == tmp_path / ".."


@pytest.fixture
def small_home(bench: Bench) -> Iterator[Path]:
    """A home on a file system of its own, 64 KiB large."""
    home = bench.layout.workspace_home("w1")
    home.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "studiolo-test", str(home)], check=True)
    yield home
    subprocess.run(["umount", "--lazy", str(home)], check=True)


@needs_mount
async def test_a_full_home_still_starts(bench: Bench, small_home: Path) -> None:
    with pytest.raises(OSError, match="No space"):
        (small_home / "ballast").write_bytes(bytes(1 << 20))
    seed = SeedFile(str(small_home / "settings.json"), "x" * 8192, keep=False)
    observation = await bench.up(bench.launch(seeds=(seed,)))
    assert any("settings.json" in note and "No space" in note for note in observation.notes)
    assert not (small_home / "settings.json").exists(), "half a settings file is worse than none"


@needs_mount
async def test_a_read_only_home_still_starts(bench: Bench, small_home: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_home)], check=True)
    seed = SeedFile(str(small_home / "settings.json"), "{}", keep=False)
    observation = await bench.up(bench.launch(seeds=(seed,), mounts=(Mount(str(tmp_path), "data"),)))
    assert sum("Read-only" in note for note in observation.notes) == 2
