"""A document as the text of a `studiolo.yaml`. Pure."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML


def as_yaml(document: Mapping[str, Any], heading: Sequence[str] = ()) -> str:
    """Reads back as the same document; the lines of `heading` are comments at the top."""
    yaml = YAML(typ="rt", pure=True)
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = io.StringIO()
    for line in heading:
        out.write(f"# {' '.join(line.split())}".rstrip() + "\n")
    if heading:
        out.write("\n")
    if document:
        yaml.dump(dict(document), out)
    return out.getvalue()
