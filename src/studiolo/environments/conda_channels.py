"""Where conda packages come from: channels as people write them, and the addresses that these stand for.

A name stands for a folder below the owner's channel alias (`CONDA_CHANNEL_ALIAS`, as for conda itself), so that a
mirror is the owner's choice; a lock names channels as they were written and never where that is.
"""

from __future__ import annotations

import os
import re

DEFAULT = "conda-forge"
NOBODY = "nodefaults"
"""What conda knows as a channel that only says: add none that is not written here. None ever is."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_ADDRESS = re.compile(
    r"https://[^/@\s?#:]+(?::\d+)?(?:/[^@\s?#]*)?|http://(?:localhost|127\.0\.0\.1)(?::\d+)?(?:/[^@\s?#]*)?|file:///[^@\s?#]+"
)
_TOKEN = re.compile(r"(?:^|/)t/[^/]+")
# What `defaults` means to conda, as channels like any other.
_MEANING = {"defaults": ("main", "r")}


def meant(written: str) -> tuple[str, ...]:
    """The channels that a line of `channels:` stands for. Raises `ValueError`: `what is wrong; what to write`."""
    text = written.strip()
    if text == NOBODY:
        return ()
    if "://" not in text:
        if _NAME.fullmatch(text) and not _TOKEN.match(text):
            return _MEANING.get(text, (text,))
        raise ValueError("it is not a channel; write its name, such as conda-forge, or its https address")
    if "@" in text or _TOKEN.search(text.partition("://")[2]):
        raise ValueError(
            "a channel's log-in does not belong into a repository; "
            "leave it out: the owner of this machine keeps it in RATTLER_AUTH_FILE"
        )
    if not _ADDRESS.fullmatch(text) or "/../" in f"{text}/":
        raise ValueError("it is not a channel's address; write one that begins with https://")
    return (text.rstrip("/"),)


def address(channel: str) -> str:
    """The address of a channel that `meant` returned, ending in a slash."""
    if "://" in channel:
        return f"{channel}/"
    import rattler

    alias = os.environ.get("CONDA_CHANNEL_ALIAS")
    configuration = rattler.ChannelConfig(alias.rstrip("/") + "/") if alias else rattler.ChannelConfig()
    return str(rattler.Channel(channel, configuration).base_url)
