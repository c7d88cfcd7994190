"""What Nix tells while it builds (`--log-format internal-json`), as progress, as a log, and as the reason of a failure.

The numbers are Nix's own (`ActivityType`, `ResultType` in its src/libutil/logging.hh).
"""

from __future__ import annotations

import json
import re
from collections import deque
from typing import Any

from studiolo.environments.build_log import BuildLog
from studiolo.environments.kind import Progress, Report

_COPY_PATH, _COPIES, _BUILDS, _BUILD = 100, 103, 104, 105
_LOG_LINE, _PROGRESS = 101, 105
_WARNING = 1
_PREFIX = "@nix "
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_TAIL = 12


class BuildProgress:
    """Hears every line that Nix prints. Lines that are not of this form are ignored."""

    def __init__(self, log: BuildLog, report: Report) -> None:
        self._log = log
        self._report = report
        self._counts: dict[int, tuple[int, int]] = {}
        self._builds: dict[int, str] = {}
        self._tails: dict[str, deque[str]] = {}
        self._doing = "asking Nix what there is to do"
        self._said: list[str] = []

    @property
    def said(self) -> str:
        """Nix's own warnings and errors, as it prints them for people."""
        return "\n".join(self._said)

    def tail(self, name: str) -> str:
        """The end of what building the derivation `name` printed."""
        return "\n".join(self._tails.get(name, ()))

    def hear(self, line: str) -> None:
        if not line.startswith(_PREFIX):
            return
        try:
            event = json.loads(line.removeprefix(_PREFIX))
            self._take(event)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            self._log.add(line)  # another Nix's words; only the log can make use of them

    def _take(self, event: dict[str, Any]) -> None:
        match event["action"]:
            case "msg" if event["level"] <= _WARNING:
                text = _ANSI.sub("", event["msg"])
                self._said.append(text)
                self._log.add(text)
            case "start":
                self._start(event)
            case "result" if event["type"] == _LOG_LINE:
                name, text = self._builds.get(event["id"], "nix"), _ANSI.sub("", event["fields"][0])
                self._tails.setdefault(name, deque(maxlen=_TAIL)).append(text)
                self._log.add(f"{name}> {text}")
            case "result" if event["type"] == _PROGRESS and event["id"] in self._counts:
                done, expected = event["fields"][:2]
                if (done, expected) != self._counts[event["id"]]:
                    self._counts[event["id"]] = (done, expected)
                    self._tell()

    def _start(self, event: dict[str, Any]) -> None:
        if event["type"] in (_COPIES, _BUILDS):
            self._counts[event["id"]] = (0, 0)
        elif event["type"] in (_COPY_PATH, _BUILD):
            name = store_name(event["fields"][0])
            self._log.add(_ANSI.sub("", event["text"]))
            if event["type"] == _BUILD:
                self._builds[event["id"]] = name
            self._doing = f"{'building' if event['type'] == _BUILD else 'downloading'} {name}"
            self._tell()

    def _tell(self) -> None:
        done = sum(count[0] for count in self._counts.values())
        total = sum(count[1] for count in self._counts.values())
        self._report(Progress(self._doing, done, total) if total else Progress(self._doing))


def store_name(path: str) -> str:
    """`/nix/store/<hash>-hello-1.2.drv` is called hello-1.2."""
    return path.rpartition("/")[2][33:].removesuffix(".drv")
