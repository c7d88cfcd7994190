"""Grants as links: `<grants>/<label>/<key>` leads to an app's socket, and is the route to it at the same time.

Beside it, `<key>.ws` leads to the relay, which takes WebSockets. To let in is to link, to revoke is to unlink; nginx
and the relay look when a request comes. The folder is a view of the store: `rebuild` makes it so.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from studiolo.names import Label

KEY_PATTERN = r"[A-Za-z0-9_-]{43}"
_KEY = re.compile(KEY_PATTERN)


def new_key() -> str:
    """A fresh key: 32 random bytes in 43 characters, which cannot be guessed."""
    return secrets.token_urlsafe(32)


def is_key(text: str) -> bool:
    """Whether the text has the form of a key, and so cannot play tricks as a file name."""
    return _KEY.fullmatch(text) is not None


class Grants:
    """The folder of links. Every change is one rename or unlink per link: a crash leaves no half link.

    All calls are idempotent, cost the same however many grants there are (`rebuild` apart), and raise ValueError for
    a label or key that is not one: they become file names. More than one process may link and unlink at once.
    """

    def __init__(self, folder: Path, relay_socket: Path) -> None:
        self._folder = folder
        self._relay = relay_socket

    def link(self, label: Label, key: str, socket: Path) -> None:
        """Let `key` in to the app that listens, now or later, on `socket` (absolute). Replaces an older link."""
        place = self._place(label, key)
        if not socket.is_absolute():
            raise ValueError(f"{socket} is not an absolute path")
        # The relay first: who can send requests can then open WebSockets too.
        self._point(place.with_name(f"{key}.ws"), self._relay)
        self._point(place, socket)

    def unlink(self, label: Label, key: str) -> None:
        """Take the grant away: the next request is not let in, and its WebSockets are cut within a second."""
        place = self._place(label, key)
        place.unlink(missing_ok=True)
        place.with_name(f"{key}.ws").unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others are let in still, or right now
            place.parent.rmdir()

    def unlink_label(self, label: Label) -> None:
        """Take all grants to one app away."""
        folder = self._folder / _checked(label)
        # Renamed first, so that all of them end at one moment; `.` begins no label.
        doomed = self._folder / f".{folder.name}.{secrets.token_hex(8)}"
        with contextlib.suppress(FileNotFoundError):
            folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def rebuild(self, grants: Iterable[tuple[Label, str, Path]]) -> None:
        """Make the folder say exactly this. Links that are right already are not touched, so nothing is cut."""
        wanted: dict[str, dict[str, Path]] = {}
        listed = list(grants)
        for label, key, socket in listed:
            names = wanted.setdefault(_checked(label), {})
            names[_checked_key(key)] = socket
        with os.scandir(self._folder) as entries:
            for entry in list(entries):
                keys = wanted.get(entry.name)
                if keys is None or not entry.is_dir(follow_symlinks=False):
                    _remove(Path(entry.path))
                else:
                    _keep(Path(entry.path), {name for key in keys for name in (key, f"{key}.ws")})
        for label, key, socket in listed:
            self.link(label, key, socket)

    def _place(self, label: Label, key: str) -> Path:
        return self._folder / _checked(label) / _checked_key(key)

    def _point(self, link: Path, target: Path) -> None:
        with contextlib.suppress(OSError):
            if link.readlink() == target:
                return
        draft = link.with_name(f".{link.name}.{secrets.token_hex(8)}")
        while True:
            link.parent.mkdir(mode=0o700, exist_ok=True)
            try:
                draft.symlink_to(target)
                draft.replace(link)
            except FileNotFoundError:  # the label's last grant was taken away in between, and its folder with it
                continue
            return


def _checked(label: Label) -> str:
    text = str(label)
    if Label.parse(text) != label:
        raise ValueError(f"{text!r} is not a label")
    return text


def _checked_key(key: str) -> str:
    if not is_key(key):
        raise ValueError("this is not a key")  # its text stays out of the message: it may be nearly one
    return key


def _keep(folder: Path, names: set[str]) -> None:
    with os.scandir(folder) as entries:
        for entry in list(entries):
            if entry.name not in names:
                _remove(Path(entry.path))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
