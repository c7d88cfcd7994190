"""Building a generation again, and telling how that goes and whether the same came out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from studiolo.control.subject import as_problem, as_reason
from studiolo.environments.generations import Generation
from studiolo.environments.kind import Index, Kind, Progress
from studiolo.environments.verify import verify
from studiolo.problem import StudioloError
from studiolo.resources import FileDifference, Reason, Verification


async def rebuilt(
    kind: Kind, built: Generation, scratch: Path, indexes: Sequence[Index]
) -> AsyncGenerator[Verification, None]:
    """Lines of progress, then the result, or the problem where it fails. Closing it gives the build up."""
    said: asyncio.Queue[str] = asyncio.Queue()

    def report(progress: Progress) -> None:
        count = f" ({progress.done} of {progress.total})" if progress.done and progress.total else ""
        said.put_nowait(f"{progress.message}{count}")

    begun = time.monotonic()
    task = asyncio.create_task(verify(kind, built.lock, built.folder, scratch, report, indexes))
    try:
        while not task.done():
            asking = asyncio.create_task(said.get())
            try:
                await asyncio.wait({task, asking}, return_when=asyncio.FIRST_COMPLETED)
                if asking.done():
                    yield Verification(progress=asking.result())
            finally:
                asking.cancel()
        result = await task
    except (StudioloError, OSError) as error:
        # in the stream, which has begun: an answer's status is said before
        yield Verification(done=True, problem=Reason(**as_reason(as_problem(error))))
        return
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    yield Verification(
        done=True,
        same=result.same,
        files=result.files,
        differences=tuple(FileDifference(path=each.path, what=each.what) for each in result.differences),
        seconds=round(time.monotonic() - begun, 2),
    )
