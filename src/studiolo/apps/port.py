"""A program that a person runs in the workspace, on a loopback port: seen at an origin of its own while it runs.

Before and after it there is a page that says so. What listens on the port is not ours: other programs of the same
machine may be reached that way, by the workspace's owner and by whom the owner lets in.
"""

from __future__ import annotations

from pathlib import Path

from studiolo.apps import port_forwarder
from studiolo.apps.app import Activity, Beginning, Place, Process, Tools
from studiolo.daemon import python_module
from studiolo.spec.document import App


class Port:
    name = "port"

    def tools(self, document: App) -> Tools | None:
        return None

    def process(self, document: App, place: Place) -> Process:
        return Process(
            argv=tuple(python_module(port_forwarder.__name__, str(place.socket), str(document.port))),
            ready=port_forwarder.READY,
            timeout=document.timeout,
        )

    def beginning(self, tools: Path | None) -> Beginning | None:
        return None

    async def activity(self, socket: Path) -> Activity | None:
        """Nothing is known of it: its CPU time and what goes through the edge must do."""
        return None
