"""What goes from a finished npm tree, and what must stay."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from studiolo.environments.npm_prune import prune


@pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="the names are of this platform")
def test_only_what_runs_here_stays(tmp_path: Path) -> None:
    stays = [
        "a/index.js",
        "a/lib.d.ts",
        "a/prebuilds/linux-x64/a.node",
        "a/bin/linux-x64/rg",
        "a/build/Release/a.node",
        "a/build/index.js",
        "a/win32-x64/code.js",
        "watcher-linux-x64-glibc/watcher.node",
        "a/src/obj/code.js",
    ]
    goes = [
        "a/index.js.map",
        "a/prebuilds/win32-x64/a.node",
        "a/prebuilds/darwin-x64+arm64/a.node",
        "a/bin/linux-arm64/rg",
        "a/tool.exe",
        "b/build/Release/obj.target/b.node",
        "b/build/Release/.deps/b.d",
        "b/build/Release/b.a",
        "b/build/Makefile",
        "b/build/b.target.mk",
        "b/build/config.gypi",
    ]
    for name in (*stays, *goes):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("12345")
    (tmp_path / "link.map").symlink_to("a/index.js")
    assert prune(tmp_path) >= 5 * len(goes)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*stays, "link.map"}
    assert prune(tmp_path) == 0
