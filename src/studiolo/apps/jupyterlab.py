"""JupyterLab, run from tools of its own; kernels and terminals are the workspace's.

What people change lies in their home and wins over what is set here, except for where the server listens and who lets
people in: that is the edge, so the server has neither token nor password, and its socket is its owner's alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from studiolo.apps.app import Activity, Place, Process, Seed, Tools
from studiolo.apps.asking import as_time, get_json
from studiolo.spec.document import App

VERSION = "4.6.6"

# Quiet at first sight; each of these is a default that the person's own settings override.
_SETTINGS: dict[str, Any] = {
    "@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": False,
    },
    "@jupyterlab/docmanager-extension:plugin": {"defaultViewers": {"markdown": "Markdown Preview"}},
}
_PAGE: dict[str, Any] = {
    "disabledExtensions": {
        "@jupyterlab/apputils-extension:announcements": True,
        # Without language servers its page only asks for what is not there.
        "@jupyterlab/lsp-extension": True,
        "@jupyterlab/fileeditor-extension:language-server": True,
        "@jupyterlab/notebook-extension:language-server": True,
    },
}


class JupyterLab:
    name = "jupyterlab"

    def tools(self, document: App) -> Tools | None:
        return Tools("uv", (f"jupyterlab=={VERSION}", *sorted(document.extensions)))

    def process(self, document: App, place: Place) -> Process:
        assert place.tools is not None, "JupyterLab is not run without its tools"
        config = place.state / "config"
        data = place.state / "data"
        settings = place.settings
        return Process(
            argv=(
                # Isolated: what PYTHON* variables and user site-packages do is meant for the workspace's own Python.
                str(place.tools / "bin/python"),
                "-I",
                "-m",
                "jupyterlab",
                "--no-browser",
                f"--ServerApp.sock={place.socket}",
                "--ServerApp.sock_mode=0600",
                f"--ServerApp.root_dir={place.folder}",
                "--IdentityProvider.token=",
                "--PasswordIdentityProvider.hashed_password=",
                "--ServerApp.allow_root=True",
                # The edge admits, and only for its own hosts; it also refuses what another site's page sends, which is
                # what the server's own check is for. Programs that come with a token could not pass that one.
                "--ServerApp.allow_remote_access=True",
                "--ServerApp.trust_xheaders=True",
                "--ServerApp.disable_check_xsrf=True",
            ),
            env={
                "JUPYTER_CONFIG_PATH": str(config),
                "JUPYTER_CONFIG_DIR": str(settings / ".jupyter"),
                "JUPYTER_DATA_DIR": str(settings / ".local/share/jupyter"),
                "JUPYTER_PATH": str(data),
                "JUPYTER_RUNTIME_DIR": str(place.state / "runtime"),
                "JUPYTER_PLATFORM_DIRS": "0",
                "IPYTHONDIR": str(settings / ".ipython"),
                "MPLCONFIGDIR": str(place.state / "matplotlib"),
            },
            seeds=(
                _seed(config / "jupyter_server_config.json", self._server_config(place)),
                _seed(config / "labconfig/default_setting_overrides.json", _SETTINGS),
                _seed(config / "labconfig/page_config.json", _PAGE),
                *self._kernel(data, place),
            ),
            ready="/api/status",
            timeout=document.timeout,
        )

    def _server_config(self, place: Place) -> dict[str, Any]:
        return {
            "ServerApp": {
                "quit_button": False,
                # A login shell would read /etc/profile, which sets PATH anew on Debian.
                "terminado_settings": {"shell_command": ["/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"]},
                "jpserver_extensions": {"jupyter_lsp": False, "notebook_shim": False},
            },
            "KernelSpecManager": {"ensure_native_kernel": False},
            # Tools are immutable: what a workspace wants more is declared in its `extensions`.
            "LabApp": {
                "default_url": _first_sight(place.folder),
                "extension_manager": "readonly",
                "collaborative": False,
                "news_url": None,
            },
        }

    def _kernel(self, data: Path, place: Place) -> tuple[Seed, ...]:
        if place.interpreter is None:
            return ()
        # Named python3, as notebooks from elsewhere are: they open in the workspace's environment without asking.
        spec = {
            "argv": [place.interpreter, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": place.environment,
            "language": "python",
            "metadata": {"debugger": True},
        }
        return (_seed(data / "kernels/python3/kernel.json", spec),)

    async def activity(self, socket: Path) -> Activity | None:
        answers = await get_json(socket, "/api/status", "/api/kernels?no_track_activity=1")
        if answers is None:
            return None
        status, kernels = answers
        busy = [kernel for kernel in kernels if kernel.get("execution_state") == "busy"]
        return Activity(bool(busy), as_time(status.get("last_activity")), "a kernel is busy" if busy else "")


def _seed(path: Path, content: dict[str, Any]) -> Seed:
    return Seed(path, json.dumps(content, indent=2) + "\n")


def _first_sight(folder: Path) -> str:
    """The repository's notebook, or its README, or the launcher."""
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    except OSError:
        return "/lab"
    notebooks = [name for name in names if name.endswith(".ipynb")]
    readmes = [name for name in names if name.lower() in ("readme.md", "readme.rst", "readme.txt", "readme")]
    return f"/lab/tree/{[*notebooks, *readmes][0]}" if notebooks or readmes else "/lab"
