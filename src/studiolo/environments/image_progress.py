"""What a person is told of a build: its steps, its log and, when it fails, which line of which file is to blame."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence

from studiolo.environments.build_log import BuildLog
from studiolo.environments.engine import BuildFailed
from studiolo.environments.image_dockerfile import Dockerfile
from studiolo.environments.kind import Progress, Report
from studiolo.problem import Problem, StudioloError, WrongInput

_LARGEST_LOG = 32 << 20
_CHATTER = re.compile(
    r"\s*$| ?---?> |Step \d+/\d+ : |(\[\d+/\d+\] )?STEP \d+/\d+: |Removing intermediate container |\[.*\d+/\d+\] "
)


class BuildProgress:
    """`sent` is the Dockerfile that the engine has; `shown` says for each of its instructions what a person is told it
    is, and where that stands."""

    def __init__(self, sent: Dockerfile, shown: Sequence[tuple[str, str]], log: BuildLog, report: Report) -> None:
        self._sent = sent
        self._shown = shown
        self._log = log
        self._report = report
        self._room = _LARGEST_LOG
        self._last: deque[str] = deque(maxlen=12)
        self._at = -1

    def step(self, text: str) -> None:
        """An instruction begins."""
        index = self._sent.find(text, self._at)
        if index is not None:
            self._at = index
            self._report(Progress(self._shown[index][0][:120], index + 1, len(self._shown)))

    def line(self, line: str) -> None:
        """Something was printed."""
        if not _CHATTER.match(line):
            self._last.append(line[:1000])
        if self._room > 0:
            self._log.add(line)
            self._room -= max(len(line), 63) + 1  # a million empty lines take their time too
            if self._room <= 0:
                self._log.add(f"(what was printed after {_LARGEST_LOG >> 20} MiB is left out)")

    def explain(self, error: BuildFailed) -> StudioloError:
        """A step that failed, or a Dockerfile that the engine refuses."""
        message = error.problem.message
        self._log.add(message)
        where = self._sent.where
        refused = re.search(r"parse error (?:on )?line (\d+)", message)
        if error.refused or refused:
            place = f"{where}:{refused[1]}:1" if refused else where
            return WrongInput(Problem("dockerfile-syntax", f"the engine refuses it: {message}", "", place))
        # the one that began last, unless BuildKit had several under way
        index = self._sent.find(error.step, self._at - 1)
        if index is None:
            return StudioloError(Problem("image-build-failed", f"the image cannot be built: {message}", "", where))
        text, place = self._shown[index]
        output = "\n".join(["", *self._last]) if self._last else ""
        return StudioloError(
            Problem(
                "image-build-failed",
                f"step {index + 1} of {len(self._shown)}, {text[:200]}, failed: {message}{output}",
                "correct this line",
                place,
            )
        )
