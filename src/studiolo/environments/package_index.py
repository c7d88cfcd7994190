"""Package indexes beside the machine's own: which addresses will do, and how uv is told of them.

A login travels in the program's environment, under its index's name; it is in no argument list and no file.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from studiolo.environments.kind import Index
from studiolo.problem import Problem, WrongInput

_ADDRESS = re.compile(
    r"(?:https://[\w.-]+(?::\d+)?|http://(?:localhost|127\.0\.0\.1|\[::1\])(?::\d+)?)(?:/[\w./~%+,:=-]*)?", re.ASCII
)
# PyPI's own address, by the host's name alone: wherever it is served from, the machine's own index stands in for it.
_USUAL = re.compile(r"https://pypi\.\w+/simple")


def declared(url: str, default: bool, where: str) -> Index | None:
    """The index that a repository's file names. None for PyPI itself, for which the machine's own stands in.

    Raises `WrongInput` for an address that holds a login, or is neither https nor this machine's.
    """
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise WrongInput(
            Problem(
                "index-in-file",
                f"the address of the index at {host(url)} holds a user name or password",
                "take it out, keep it with `studiolo secret set`, and name index and secret in environment.indexes",
                where,
            )
        )
    if not _ADDRESS.fullmatch(url):
        raise WrongInput(
            Problem(
                "index-in-file",
                f"{url[:120]!r} is not an index that packages can be taken from",
                "write its https address, such as https://HOST/simple/; folders and variables are of one machine only",
                where,
            )
        )
    return None if _USUAL.fullmatch(_key(url)) else Index(url, default)


def is_address(url: str) -> bool:
    """Whether packages may be taken from there because a repository says so."""
    return _ADDRESS.fullmatch(url) is not None


def host(url: str) -> str:
    """The host of an address, with its port: what may be repeated of it to anybody."""
    try:
        parts = urlsplit(url)
        return f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"
    except ValueError:
        return "an address that is none"


def merged(*groups: Iterable[Index]) -> tuple[Index, ...]:
    """Each address once, in the order in which packages are looked for. The first default is the only one."""
    found: dict[str, Index] = {}
    default = False
    for index in (index for group in groups for index in group):
        key = _key(index.url)
        known = found.get(key)
        if known is not None:
            found[key] = Index(known.url, known.default, known.login or index.login)
        else:
            found[key] = Index(index.url, index.default and not default, index.login)
            default = default or index.default
    return tuple(found.values())


def named(indexes: Sequence[Index]) -> tuple[tuple[str, Index], ...]:
    """What uv knows them as. The names become those of variables, too."""
    return tuple((f"studiolo-{number}", index) for number, index in enumerate(indexes))


def table(indexes: Sequence[Index]) -> list[dict[str, Any]]:
    """`[[tool.uv.index]]` of all but the default, which `variables` sets: only so it overrules the machine's own."""
    return [{"name": name, "url": index.url} for name, index in named(indexes) if not index.default]


def variables(indexes: Sequence[Index]) -> dict[str, str]:
    """What uv finds in its environment: the logins, and the index in place of the machine's own."""
    found = {}
    for name, index in named(indexes):
        if index.default:
            found["UV_DEFAULT_INDEX"] = f"{name}={index.url}"
        if index.login is not None:
            prefix = "UV_INDEX_" + name.upper().replace("-", "_")
            found[f"{prefix}_USERNAME"], found[f"{prefix}_PASSWORD"] = index.login
    return found


def facts(indexes: Sequence[Index]) -> dict[str, Any]:
    """What a lock keeps of them: addresses only, and which one stands in for the machine's own."""
    found: dict[str, Any] = {"indexes": [index.url for index in indexes]} if indexes else {}
    if instead := [index.url for index in indexes if index.default]:
        found["default_index"] = instead[0]
    return found


def remembered(kept: Mapping[str, Any]) -> tuple[Index, ...]:
    """The indexes that `facts` kept."""
    return tuple(Index(str(url), url == kept.get("default_index")) for url in kept.get("indexes", ()))


def mask(text: str, indexes: Sequence[Index]) -> str:
    """`text` without the passwords of these indexes, which a package's own build may print."""
    for user, password in (index.login for index in indexes if index.login is not None):
        if password:
            pair = base64.b64encode(f"{user}:{password}".encode()).decode()
            for secret in (pair, password, quote(password, safe="")):
                text = text.replace(secret, "***")
    return text


def _key(url: str) -> str:
    return url.rstrip("/").lower()
