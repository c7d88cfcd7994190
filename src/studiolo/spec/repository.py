"""Where a workspace's files come from: a folder of the host, or a Git URL.

Only `https://` URLs are cloned: the others run programs (`ext::`), read the server's own files (`file:`) or need keys
that the service may hold and the person may not (`ssh:`).
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from studiolo.names import NAME_LENGTH, as_name
from studiolo.problem import Problem, WrongInput
from studiolo.spec.wording import quoted

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(?:://|::)")
# git reads `host:path` as SSH unless a slash comes before the colon (git-clone(1), GIT URLS).
_SCP = re.compile(r"[^/]+:")
_HTTPS = "write https://HOST/PATH"


def is_git_url(text: str) -> bool:
    """Whether `text` is a URL to clone; otherwise it is a folder. Raises `WrongInput` for what is refused."""
    try:
        check_repository(text)
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        raise WrongInput(Problem("wrong-repository", message, hint, "repository")) from None
    return text.startswith("https://")


def check_repository(text: str) -> str:
    """`text` unchanged. Raises ValueError, `what is wrong; what to write`, for what is refused."""
    if not text.strip():
        raise ValueError("is empty; write a folder or an https:// Git URL")
    if not text.isprintable():
        raise ValueError(f"{quoted(text)} holds characters that cannot be printed; {_HTTPS}")
    if text.startswith("-"):
        raise ValueError(f"{quoted(text)} would be read as an option; write ./{text[:40]} for a folder")
    scheme = _SCHEME.match(text)
    if scheme is None:
        if _SCP.match(text):
            raise ValueError(f"{quoted(text)} is an SSH address, and only https:// is cloned; {_HTTPS}")
        return text
    if scheme[0] != "https://":
        raise ValueError(f"{scheme[0]} is not cloned, only https:// is; {_HTTPS}")
    try:
        url = urlsplit(text)
        valid = url.hostname and url.port != 0 and not re.search(r"[\s\\]", text)
    except ValueError:
        raise ValueError(f"an address that begins {quoted(text[:8])} is not a URL; {_HTTPS}") from None
    if "@" in url.netloc:
        # The text may hold a password, so it is not repeated.
        raise ValueError("the URL holds a user name or password, which would be stored and shown; leave them out")
    if not valid:
        raise ValueError(f"{quoted(text)} is not a URL; {_HTTPS}")
    if url.query or url.fragment or not url.path.strip("/"):
        raise ValueError(f"{quoted(text)} is not a repository's address; {_HTTPS}, without ? or #")
    return text


def repository_name(text: str | None) -> str:
    """A workspace's default name: the last part of the path, `workspace` where there is none."""
    last = (text or "").rstrip("/").rpartition("/")[2].removesuffix(".git")
    # Shorter than a name may be, so that app, workspace and owner fit into one host label.
    return as_name(as_name(last)[: NAME_LENGTH - 10])
