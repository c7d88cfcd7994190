"""The kinds of app there are. A new one is a module beside these and a line here."""

from __future__ import annotations

from collections.abc import Mapping

from studiolo.apps.app import AppKind
from studiolo.apps.command import Command
from studiolo.apps.jupyterlab import JupyterLab
from studiolo.apps.port import Port
from studiolo.apps.vscode import VSCode

KINDS: Mapping[str, AppKind] = {kind.name: kind for kind in (JupyterLab(), VSCode(), Command(), Port())}
