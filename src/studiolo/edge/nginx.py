"""nginx's one configuration, as text. Pure: `edge.py` writes it down and starts nginx with it."""

from __future__ import annotations

import hashlib
import json
import re
import string
from collections.abc import Sequence
from importlib import resources

from studiolo.names import LABEL_LENGTH

GRANT_COOKIE = "studiolo-grant"
SESSION_COOKIE = "studiolo-session"
LOOPBACK = ("127.0.0.1", "[::1]")
# A proxied request takes two connections. 16,384 of them cost nginx 7 MB whether used or not.
_MOST_CONNECTIONS = 16384

_OWN = rf"[ \t]*(?:{GRANT_COOKIE}|{SESSION_COOKIE})[ \t]*="
_REST_OF_ONE = r"[^;]*+(?:;[ \t]*+|$)"
_OTHERS = rf"(?:(?!{_OWN}){_REST_OF_ONE})*+"
_REMOVED = 4

_DOWN_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="2">
<meta name="viewport" content="width=device-width"><title>Studiolo is restarting</title><style>
:root{color-scheme:light dark}body{margin:0;min-height:100vh;display:grid;place-items:center;
font:17px/1.6 Georgia,"Times New Roman",serif;background:#faf8f4;color:#2b2723}
main{max-width:26rem;padding:2rem}h1{font-size:1.35rem;font-weight:500;margin:0 0 .5rem}p{margin:0;opacity:.75}
@media(prefers-color-scheme:dark){body{background:#1b1917;color:#e8e3da}}</style></head><body><main>
<h1>Studiolo is restarting</h1><p>Running notebooks and editors are not affected. This page reloads by itself.</p>
</main></body></html>
"""


def render(
    *,
    port: int,
    domain: str = "localhost",
    listen: Sequence[str] = LOOPBACK,
    workers: int | str = 1,
    open_files: int = 1024,
    user: str | None = None,
    instance: str = "",
) -> str:
    """The configuration for `port` on the addresses in `listen` (IPv6 in brackets).

    Apps are at `<label>.<domain>`, the control plane at `localhost`, the loopback addresses and `domain` itself.
    `workers` is a number or `auto`, `open_files` the limit a worker may raise itself to, `user` whom workers run as
    (only for root). `instance` tells two installations apart in the digest, which nginx serves and `digest` reads.
    Raises ValueError for values that could not stand in a configuration.
    """
    if not 0 < port < 65536:
        raise ValueError(f"{port} is not a port")
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", domain):
        raise ValueError(f"{domain!r} is not a domain")
    if not listen or not all(re.fullmatch(r"[0-9.]+|\[[0-9a-f:.]+\]", address) for address in listen):
        raise ValueError(f"{listen!r} are not addresses to listen on")
    if not re.fullmatch(r"auto|[1-9][0-9]?", str(workers)):
        raise ValueError(f"{workers!r} is not a number of workers")
    if user is not None and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", user):
        raise ValueError(f"{user!r} is not a user")
    values = {
        "user": f"user {user};" if user else "",
        "workers": str(workers),
        "open_files": str(open_files),
        "connections": str(max(64, min(_MOST_CONNECTIONS, open_files - 64))),
        "cookies_pattern": _cookies_pattern(),
        "listen": _listen(listen, port, ""),
        "listen_default": _listen(listen, port, " default_server"),
        "control_names": " ".join(dict.fromkeys(("localhost", "127.0.0.1", "[::1]", domain))),
        "label_length": str(LABEL_LENGTH),
        "name": "[a-z0-9](?:-?[a-z0-9])*",
        "domain_pattern": re.escape(domain),
        "down_html": _quotable(_DOWN_PAGE),
        "down_json": _problem("control-plane-down", "Studiolo is restarting", 503, "try again in a second"),
        "ended_json": _problem(
            "app-lost", "the app could not be reached, or hung up before it answered", 503, "send it again in a second"
        ),
        "no_grant_json": _problem(
            "no-grant", "you have not been let in here", 401, "open the app from the dashboard, or use `studiolo token`"
        ),
        "refused_json": _problem("cross-site", "another site's page asked for this", 403, "open the app's own address"),
    }
    template = _Template(resources.files("studiolo.edge").joinpath("nginx.conf").read_text())
    unsigned = template.substitute(values, digest=instance)
    return template.substitute(values, digest=hashlib.sha256(unsigned.encode()).hexdigest()[:32])


def digest(config: str) -> str:
    """What nginx answers at `/.studiolo/edge` while it serves exactly this configuration."""
    found = re.search(r'return 200 "([0-9a-f]{32})', config)
    assert found is not None
    return found.group(1)


class _Template(string.Template):
    delimiter = "@@"


def _listen(addresses: Sequence[str], port: int, options: str) -> str:
    return "\n".join(f"        listen {address}:{port}{options};" for address in addresses)


def _cookies_pattern() -> str:
    """Cookies that are not ours in `c0`, then at most four times: one of ours, and what follows it in `c1`..`c4`."""
    groups = "".join(f"(?:{_OWN}{_REST_OF_ONE}(?<c{n}>{_OTHERS}))?" for n in range(1, _REMOVED + 1))
    return f"^(?<c0>{_OTHERS}){groups}$"


def _problem(code: str, title: str, status: int, hint: str) -> str:
    return _quotable(
        json.dumps({"type": "about:blank", "title": title, "status": status, "code": code, "detail": hint})
    )


def _quotable(text: str) -> str:
    """Text as it stands between single quotes in a configuration; `$` would begin a variable."""
    assert "$" not in text
    return text.replace("\\", "\\\\").replace("'", "\\'")
