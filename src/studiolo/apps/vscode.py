"""VS Code in the browser: code-server on Node, from tools of its own; terminals and notebooks are the workspace's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from studiolo.apps.app import Activity, Beginning, Place, Process, Seed, Tools
from studiolo.apps.asking import get_json
from studiolo.spec.document import App

VERSION = "4.139.1"
EXTENSIONS = ("ms-python.python", "ms-toolsai.jupyter")

# Quiet at first sight. Written once: from then on these settings are the person's.
_SETTINGS: dict[str, Any] = {
    "workbench.startupEditor": "readme",
    "workbench.tips.enabled": False,
    "workbench.welcomePage.walkthroughs.openOnInstall": False,
    "workbench.enableExperiments": False,
    "workbench.secondarySideBar.defaultVisibility": "hidden",
    "workbench.settings.showAISearchToggle": False,
    "security.workspace.trust.enabled": False,
    "telemetry.telemetryLevel": "off",
    "update.mode": "none",
    "update.showReleaseNotes": False,
    "extensions.ignoreRecommendations": True,
    "extensions.autoCheckUpdates": False,
    "chat.disableAIFeatures": True,
    "chat.commandCenter.enabled": False,
    "git.openRepositoryInParentFolders": "never",
    # Ports are not forwarded here, so there is no use in announcing each program that listens.
    "remote.autoForwardPorts": False,
    "terminal.integrated.defaultProfile.linux": "bash",
    "files.exclude": {"**/.*": True, "**/__pycache__": True},
}


class VSCode:
    name = "vscode"

    def tools(self, document: App) -> Tools | None:
        return Tools("npm", (f"code-server@{VERSION}",))

    def process(self, document: App, place: Place) -> Process:
        assert place.tools is not None, "code-server is not run without its tools"
        data = place.settings / ".local/share/code-server"
        config = place.state / "config.yaml"
        return Process(
            argv=(
                str(place.tools / "bin/node"),
                str(Path(__file__).with_name("vscode_start.cjs")),
                *(str(place.tools / "node_modules/code-server"), str(place.state / "compiled")),
                *dict.fromkeys((*EXTENSIONS, *document.extensions)),
                "--",
                *("--user-data-dir", str(data), "--extensions-dir", str(data / "extensions")),
                *("--config", str(config)),
                *("--socket", str(place.socket), "--socket-mode", "600"),
                # Its own default lies in the home, whose path may be longer than a socket's can be.
                *("--session-socket", str(place.socket.with_suffix(".ipc"))),
                *("--auth", "none"),
                "--disable-telemetry",
                "--disable-update-check",
                "--disable-workspace-trust",
                "--disable-getting-started-override",
                "--disable-proxy",
                # `/` is the workspace's folder, whatever was opened last.
                "--ignore-last-opened",
                *("--app-name", "Studiolo"),
                str(place.folder),
            ),
            # Says that the variables are right as they are. Otherwise those of a login shell take their place, and on
            # Debian /etc/profile sets PATH anew: terminals would not be in the environment.
            env={"VSCODE_CLI": "1"},
            seeds=(
                Seed(config, "{}\n"),
                _seed(data / "User/settings.json", _SETTINGS, keep=True),
                _seed(data / "Machine/settings.json", _machine(place)),
            ),
            ready="/healthz",
            timeout=document.timeout,
        )

    def beginning(self, tools: Path | None) -> Beginning | None:
        return None

    async def activity(self, socket: Path) -> Activity | None:
        answers = await get_json(socket, "/healthz")
        if answers is None:
            return None
        # Milliseconds. It beats while an editor is connected.
        beat = answers[0].get("lastHeartbeat") if isinstance(answers[0], dict) else None
        return Activity(False, beat / 1000 if isinstance(beat, int) and beat > 0 else None, "")


def _machine(place: Place) -> dict[str, Any]:
    """What is true of this machine only; a workspace's own .vscode/settings.json wins."""
    if place.interpreter is None:
        return {}
    return {
        "python.defaultInterpreterPath": place.interpreter,
        "python.terminal.activateEnvironment": False,
        "python.createEnvironment.trigger": "off",
    }


def _seed(path: Path, content: dict[str, Any], keep: bool = False) -> Seed:
    return Seed(path, json.dumps(content, indent=2) + "\n", keep)
