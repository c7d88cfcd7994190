"""Which of our own environment variables the package programs get: the owner's network and index settings, no more.

What Studiolo itself runs in (a virtual environment, a project, its secrets) must not leak into what is built.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_KEPT = re.compile(
    r"""
      PATH | HOME | USER | LOGNAME | LANG | LC_\w+ | TZ | TMPDIR | NETRC | PYENV_ROOT
    | XDG_(?:CONFIG|DATA)_(?:HOME|DIRS)
    | (?:https?|all|no)_proxy | (?:HTTPS?|ALL|NO)_PROXY
    | SSL_CERT_FILE | SSL_CERT_DIR | REQUESTS_CA_BUNDLE | CURL_CA_BUNDLE | NODE_EXTRA_CA_CERTS
    | UV_(?:DEFAULT_INDEX|INDEX|INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX|INDEX_STRATEGY|KEYRING_PROVIDER
           |INSECURE_HOST|NATIVE_TLS|SYSTEM_CERTS|OFFLINE|HTTP_\w+|CONCURRENT_\w+|PYTHON_INSTALL_\w+
           |PYTHON_DOWNLOADS|LINK_MODE)
    | UV_INDEX_\w+_(?:USERNAME|PASSWORD)
    | npm_config_\w+ | NPM_CONFIG_\w+
    | CC | CXX | CFLAGS | CXXFLAGS | LDFLAGS | LD_LIBRARY_PATH | PKG_CONFIG_PATH
    """,
    re.VERBOSE,
)


def inherited(
    extra: Mapping[str, str], defaults: Mapping[str, str] | None = None, source: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The variables kept from `source` (this process's own), over `defaults` and under `extra`."""
    own = os.environ if source is None else source
    return {**(defaults or {}), **{name: value for name, value in own.items() if _KEPT.fullmatch(name)}, **extra}
