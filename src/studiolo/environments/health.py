"""Whether a generation that has been built also works: its kernel answers, and what is to be imported ahead imports."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from studiolo.environments import health_probe
from studiolo.environments.kind import Activation
from studiolo.process import ProgramFailed, run

LIMIT = 60.0
"""Seconds for all of it. A first import from a cold disk takes some ten."""

# The probe itself ends a little earlier, so that it can say what took so long.
_MARGIN = 5.0
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Health:
    """`kernel` is `none` where notebooks cannot run in it at all, which may be meant so; `reason` says why it is not
    ok. `preload` has for each module that was asked for why it cannot be imported, or nothing."""

    kernel: Literal["ok", "none", "failed"]
    reason: str
    preload: Mapping[str, str]

    @property
    def good(self) -> bool:
        """It may be switched to."""
        return self.kernel != "failed" and not any(self.preload.values())


async def examine(activation: Activation, preload: Sequence[str], scratch: Path, limit: float = LIMIT) -> Health:
    """Start the environment's kernel, have it add two numbers, and import each module in a process of its own.

    Sees nothing of anybody's home or settings. Takes at most `limit` seconds, can be cancelled, and leaves nothing
    running. `scratch` is a folder for temporary files. Raises `OSError` where that cannot be written.
    """
    if activation.interpreter is None:
        why = "it has no Python"
        return Health("none", f"{why}, so notebooks cannot run in it", dict.fromkeys(preload, why))
    await asyncio.to_thread(scratch.mkdir, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="health-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        probe = Path(shutil.copy(health_probe.__file__, folder / "probe.py"))
        result = folder / "result.json"
        seconds = str(max(limit - _MARGIN, limit / 2))
        argv: list[str | Path] = [activation.interpreter, probe, result, seconds, *preload]
        try:
            done = await run(argv, cwd=folder, env=_variables(activation, folder), timeout=limit, check=False)
            said = done.last_lines
        except ProgramFailed as error:
            said = error.problem.message
        try:
            found = json.loads(result.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            why = f"its Python does not work: {said.splitlines()[-1] if said else 'it ends without a word'}"
            return Health("failed", why, dict.fromkeys(preload, why))
    state, reason = found["kernel"]
    return Health(state, reason, found["preload"])


def _variables(activation: Activation, folder: Path) -> dict[str, str]:
    own = {
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder),
    }
    path = ":".join([*activation.path, _SYSTEM_PATH])
    return {**activation.env, **own, "PATH": path}
