"""Any HTTP program, on the port or the socket it is given."""

from __future__ import annotations

from pathlib import Path

from studiolo.apps.app import Activity, Beginning, Place, Process, Tools
from studiolo.spec.document import App


class Command:
    name = "command"

    def tools(self, document: App) -> Tools | None:
        return None

    def process(self, document: App, place: Place) -> Process:
        takes_port = any("{port}" in word for word in document.command)
        return Process(
            argv=tuple(word.replace("{socket}", str(place.socket)) for word in document.command),
            env={"PORT": "{port}"} if takes_port else {},
            ready=document.ready,
            timeout=document.timeout,
        )

    def beginning(self, tools: Path | None) -> Beginning | None:
        return None

    async def activity(self, socket: Path) -> Activity | None:
        """Nothing is known of it: its CPU time and what goes through the edge must do."""
        return None
