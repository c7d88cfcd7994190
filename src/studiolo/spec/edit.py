"""Changing a `studiolo.yaml` that somebody wrote: what is not changed stays as it is, comments and all. Pure."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap


def add_packages(text: str, requirements: Sequence[str]) -> str | None:
    """The document with these in `environment.packages`, in place of others of the same names; None where its
    environment is a stored block's name, which is not the document's to change. `text` has been checked before."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    document = yaml.load(text) or CommentedMap()
    environment = document.get("environment")
    if environment is None:
        environment = document["environment"] = CommentedMap()
    if not isinstance(environment, CommentedMap):
        return None
    names = {_name(each) for each in requirements}
    packages = environment.setdefault("packages", [])
    for at in reversed([at for at, each in enumerate(packages) if _name(str(each)) in names]):
        del packages[at]
    packages.extend(requirements)
    out = io.StringIO()
    yaml.dump(document, out)
    return out.getvalue()


def _name(requirement: str) -> str:
    """A requirement's name in its normal form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", requirement.strip(), maxsplit=1)[0]).lower()
