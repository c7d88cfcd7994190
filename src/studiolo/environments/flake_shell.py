"""What of a development shell, as `nix print-dev-env --json` describes it, a workspace takes over. Pure.

A shell is a build that stops before it begins, so its variables are the builder's: those that only mean something to
a build, or only on the machine and at the moment it ran, are left out. `shellHook` is not run; `nix develop` does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_STORE = "/nix/store/"

_BUILDERS = re.compile(
    r"""
    # of the process that built it, as `nix develop` leaves them out, too
      BASH\w* | HOME | USER | LOGNAME | SHELL\w* | SHLVL | TERM | TZ | PWD | OLDPWD | UID | EUID | PPID | _
    | TMP | TMPDIR | TEMP | TEMPDIR | SSL_CERT_FILE | NIX_SSL_CERT_FILE | EPOCH\w+ | STUDIOLO_\w+
    | NIX_(?:BUILD_TOP|BUILD_CORES|ENFORCE_PURITY|LOG_FD|REMOTE|STORE|INDENT_MAKE|CONFIG)
    # which make builds repeatable, and work unlike what people know
    | SOURCE_DATE_EPOCH | DETERMINISTIC_BUILD | PYTHONHASHSEED | PYTHONNOUSERSITE | PYTHONDONTWRITEBYTECODE
    # of the derivation and of nixpkgs' phases
    | builder | system | name | pname | version | src | srcs | args | stdenv | shell | CONFIG_SHELL | HOST_PATH
    | out | outputs | output[A-Z]\w* | dev | lib | bin | doc | man | \w*[Ii]nputs | deps(?:Build|Host|Target)\w+
    | \w*Phases? | \w*Hook | \w*Flags(?:Array)? | dont[A-Z]\w* | do[A-Z]\w* | patches | strictDeps | unpack\w+
    | passAsFile | preferLocalBuild | allowSubstitutes | __\w+
    """,
    re.VERBOSE,
)


@dataclass(frozen=True)
class Shell:
    """Folders for PATH and variables beside it. `hook`: it has a `shellHook`, which is not run."""

    path: tuple[str, ...]
    variables: Mapping[str, str]
    hook: bool = False


def read(document: Mapping[str, Any]) -> Shell:
    """Only folders of Nix's store are taken over into PATH: others were the builder's, or are the system's anyway."""
    exported = {
        name: entry["value"]
        for name, entry in document["variables"].items()
        if entry["type"] == "exported" and isinstance(entry.get("value"), str)
    }
    path = [part for part in exported.pop("PATH", "").split(":") if part.startswith(_STORE)]
    place = exported.get("NIX_BUILD_TOP")
    kept = {
        name: value
        for name, value in sorted(exported.items())
        if not _BUILDERS.fullmatch(name) and not (place and place in value)
    }
    if "XDG_DATA_DIRS" in kept:
        # left alone it hides the system's
        kept["XDG_DATA_DIRS"] += ":/usr/local/share:/usr/share"
    hook = str(document["variables"].get("shellHook", {}).get("value", "")).strip()
    return Shell(tuple(dict.fromkeys(path)), kept, bool(hook))
