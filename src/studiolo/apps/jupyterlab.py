"""JupyterLab, run from tools of its own; kernels and terminals are the workspace's.

What people change in JupyterLab's settings lies in their home and wins over the quiet defaults here. Where the server
listens and who lets people in is not theirs to change: that is the edge, so the server has neither token nor password,
and its socket is its owner's alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from studiolo import kernels
from studiolo.apps import jupyterlab_start
from studiolo.apps.app import Activity, Beginning, Place, Process, Seed, Tools
from studiolo.apps.asking import as_time, get_json
from studiolo.spec.document import App

VERSION = "4.6.6"
# About the server: another Jupyter that somebody starts is not to be configured like this one, nor to see its kernels.
_ONLY_THE_SERVERS = ("JUPYTER_CONFIG_PATH", "JUPYTER_PATH", "JUPYTER_PLATFORM_DIRS")

# Quiet at first sight; each of these is a default that the person's own settings override.
_SETTINGS: dict[str, Any] = {
    "@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
    },
    "@jupyterlab/docmanager-extension:plugin": {"defaultViewers": {"markdown": "Markdown Preview"}},
}
_DISABLED = (
    "@jupyterlab/apputils-extension:announcements",
    # Tools are immutable: what a workspace wants more is declared in its `extensions`.
    "@jupyterlab/extensionmanager-extension",
    # From an environment that has Notebook in it: a way to pages that are not served.
    "@jupyter-notebook/lab-extension",
)
# Without language servers their page only asks for what is not there.
_LANGUAGE_SERVERS = (
    "@jupyterlab/lsp-extension",
    "@jupyterlab/fileeditor-extension:language-server",
    "@jupyterlab/notebook-extension:language-server",
)


class JupyterLab:
    name = "jupyterlab"

    def tools(self, document: App) -> Tools | None:
        return Tools("uv", (f"jupyterlab=={VERSION}", *sorted(document.extensions)))

    def process(self, document: App, place: Place) -> Process:
        assert place.tools is not None, "JupyterLab is not run without its tools"
        config = place.state / "config"
        data = place.state / "data"
        settings = place.settings
        start = place.state / "start.py"
        return Process(
            argv=(
                # Isolated: what PYTHON* variables and user site-packages do is meant for the workspace's own Python.
                str(place.tools / "bin/python"),
                "-I",
                str(start),
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
                # The environment's own share/jupyter has further kernels, and what draws its widgets in the browser.
                "JUPYTER_PATH": ":".join([str(data), *(str(share) for share in _share(place))]),
                "JUPYTER_RUNTIME_DIR": str(place.state / "runtime"),
                "JUPYTER_PLATFORM_DIRS": "0",
                "IPYTHONDIR": str(settings / ".ipython"),
            },
            seeds=(
                Seed(start, Path(jupyterlab_start.__file__).read_text(encoding="utf-8")),
                _seed(config / "jupyter_server_config.json", self._server_config(document, place)),
                _seed(config / "labconfig/default_setting_overrides.json", _SETTINGS),
                _seed(config / "labconfig/page_config.json", self._page(document, place)),
                *self._kernel(data, place),
                *(Seed(place.state / "path" / path, text) for path, text in kernels.files().items()),
            ),
            ready="/api/status",
            timeout=document.timeout,
            notes=tuple(_unreadable(settings / ".jupyter")),
        )

    def _server_config(self, document: App, place: Place) -> dict[str, Any]:
        shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
        without = [word for name in _ONLY_THE_SERVERS for word in ("-u", name)]
        return {
            "ServerApp": {
                "quit_button": False,
                # A login shell would read /etc/profile, which sets PATH anew on Debian.
                "terminado_settings": {"shell_command": ["/usr/bin/env", *without, shell]},
                "jpserver_extensions": {"jupyter_lsp": _wants_language_servers(document), "notebook_shim": False},
            },
            "KernelSpecManager": {"ensure_native_kernel": False},
            # As the default, and not said in kernel.json: a foreign jupyter_client would hide such a kernel.
            "KernelProvisionerFactory": {"default_provisioner_name": kernels.PROVISIONER},
            "ForkingProvisioner": {"withheld": list(_ONLY_THE_SERVERS)},
            "LabApp": {
                "default_url": _first_sight(place.folder),
                "extension_manager": "readonly",
                "collaborative": False,
                "news_url": None,
            },
        }

    def _page(self, document: App, place: Place) -> dict[str, Any]:
        without = () if _wants_language_servers(document) else _LANGUAGE_SERVERS
        halves = (name for share in _share(place) for name in _need_a_server(share / "labextensions"))
        return {
            "buildCheck": False,
            "disabledExtensions": dict.fromkeys([*_DISABLED, *without, *halves], True),
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

    def beginning(self, tools: Path | None) -> Beginning | None:
        assert tools is not None, "JupyterLab is not run without its tools"
        return Beginning((str(tools / "bin/python"), "-I"), (jupyterlab_start.__file__,))

    async def activity(self, socket: Path) -> Activity | None:
        answers = await get_json(socket, "/api/status", "/api/kernels?no_track_activity=1")
        if answers is None:
            return None
        status, kernels = answers
        if not isinstance(status, dict) or not isinstance(kernels, list):
            return None
        busy = [each for each in kernels if isinstance(each, dict) and each.get("execution_state") == "busy"]
        # It covers kernels, terminals and what the page asked for.
        return Activity(bool(busy), as_time(status.get("last_activity")), "a kernel is busy" if busy else "")


def _unreadable(folder: Path) -> Iterator[str]:
    """The person's own configuration that the server will pass over, which it tells nobody but its log."""
    for file in sorted(folder.glob("jupyter_*config.py")):
        try:
            compile(file.read_bytes(), str(file), "exec", dont_inherit=True)
        except SyntaxError as error:
            yield f"JupyterLab starts without {file}:{error.lineno or 1}:{error.offset or 1}: {error.msg}"
        except ValueError as error:  # bytes that are no text
            yield f"JupyterLab starts without {file}: {error}"
        except OSError as error:
            yield f"JupyterLab starts without {file}: {error.strerror}"


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
    return f"/lab/tree/{quote([*notebooks, *readmes][0])}" if notebooks or readmes else "/lab"


def _wants_language_servers(document: App) -> bool:
    return any("lsp" in extension for extension in document.extensions)


def _share(place: Place) -> tuple[Path, ...]:
    """The environment's share/jupyter."""
    return tuple(prefix / "share/jupyter" for prefix in place.prefixes)


def _need_a_server(labextensions: Path) -> list[str]:
    """Extensions in the environment that are half of something: their other half would have to be in the server."""
    found = []
    for package in [*labextensions.glob("*/package.json"), *labextensions.glob("@*/*/package.json")]:
        try:
            described = json.loads(package.read_text(encoding="utf-8"))
            if "server" in described["jupyterlab"].get("discovery", {}):
                found.append(str(described["name"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return sorted(found)
