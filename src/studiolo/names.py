"""Names of workspaces, apps, owners and blocks: DNS labels without `--`.

So that `app--workspace--owner` names one app of one workspace and nothing else, and can be a host name's first label.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NAME_PATTERN = r"^[a-z0-9](?:-?[a-z0-9])*$"
NAME_LENGTH = 40
# nginx connects to `<label>/<key 43>.ws` relative to the grants folder, and sun_path holds 107 characters (unix(7)).
LABEL_LENGTH = 107 - len("/") - 43 - len(".ws")

_NAME = re.compile(NAME_PATTERN)


def is_name(text: str) -> bool:
    """Lower-case letters, digits and single hyphens between them, 1 to 40 characters."""
    return len(text) <= NAME_LENGTH and _NAME.match(text) is not None and not text.endswith("\n")


def as_name(text: str, default: str = "workspace") -> str:
    """The nearest name to any text: `My Repo_2` becomes `my-repo-2`."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:NAME_LENGTH].strip("-")
    return slug or default


@dataclass(frozen=True)
class Label:
    """The first label of an app's host name: `jupyterlab--demo--ada`."""

    app: str
    workspace: str
    owner: str

    def __str__(self) -> str:
        return f"{self.app}--{self.workspace}--{self.owner}"

    @classmethod
    def parse(cls, text: str) -> Label | None:
        """The label's three names, or None where it is not one of ours."""
        parts = text.split("--")
        if len(parts) != 3 or len(text) > LABEL_LENGTH or not all(is_name(part) for part in parts):
            return None
        return cls(*parts)
