"""Driving uv: one way to run it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from uv import find_uv_bin

from studiolo.environments import package_index
from studiolo.environments.inherited import inherited
from studiolo.environments.kind import Index
from studiolo.environments.uv_failure import is_network
from studiolo.process import Completed, ProgramFailed, run

# A dead network must be told apart from a slow one within seconds; the owner's own settings win.
_PATIENCE = {"UV_HTTP_RETRIES": "2", "UV_HTTP_CONNECT_TIMEOUT": "5"}


class Uv:
    """uv with a cache of Studiolo's own, deaf to the folder it runs in. `cache` is Studiolo's cache folder."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache / "uv"
        self.bytecode = (cache / "bytecode").absolute()
        """Where compiled modules are kept for all environments."""
        self._scratch = cache / "scratch"

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A private folder that is gone afterwards."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._scratch, ignore_cleanup_errors=True) as name:
            folder = Path(name)
            # uv looks upwards for settings; the first it finds is this: none but the owner's
            (folder / "uv.toml").touch()
            yield folder

    async def run(
        self,
        arguments: Sequence[str | Path],
        *,
        cwd: Path,
        timeout: float,
        on_line: Callable[[str], None] | None = None,
        env: Mapping[str, str] | None = None,
        path: str | None = None,
        indexes: Sequence[Index] = (),
    ) -> Completed:
        """Run uv, with the logins of `indexes`, which nothing it prints repeats. Raises `ProgramFailed` as
        `process.run` does."""
        extra = {"UV_CACHE_DIR": str(self._cache), "UV_NO_PROGRESS": "1", "NO_COLOR": "1", **(env or {})}
        if path is not None:
            extra["PATH"] = path

        def hear(line: str) -> None:
            if on_line is not None:
                on_line(package_index.mask(line, indexes))

        try:
            done = await run(
                [find_uv_bin(), *arguments],
                cwd=cwd,
                env=inherited({**extra, **package_index.variables(indexes)}, _PATIENCE),
                timeout=timeout,
                on_line=hear,
            )
        except ProgramFailed as error:
            if error.completed is None or not indexes:
                raise
            problem = replace(error.problem, message=package_index.mask(error.problem.message, indexes))
            raise ProgramFailed(problem, _masked(error.completed, indexes)) from None
        return _masked(done, indexes)

    async def run_with_cache(
        self,
        arguments: Sequence[str | Path],
        *,
        cwd: Path,
        timeout: float,
        on_line: Callable[[str], None] | None = None,
        env: Mapping[str, str] | None = None,
        indexes: Sequence[Index] = (),
        unreachable: Callable[[], None],
    ) -> Completed:
        """Like `run`; where the index cannot be reached, tells `unreachable` and uses what was downloaded before."""
        go = partial(self.run, cwd=cwd, timeout=timeout, on_line=on_line, env=env, indexes=indexes)
        try:
            return await go(arguments)
        except ProgramFailed as error:
            if error.completed is None or not is_network(error.completed.output):
                raise
            first = error
        unreachable()
        try:
            return await go([*arguments, "--offline"])
        except ProgramFailed as again:
            if again.completed is not None and "No space left" in again.completed.output:
                raise
            raise first from again


def _masked(completed: Completed, indexes: Sequence[Index]) -> Completed:
    return replace(completed, output=package_index.mask(completed.output, indexes))
