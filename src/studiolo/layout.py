"""Where things lie on disk. One data folder per installation; `STUDIOLO_HOME` selects it.

    $STUDIOLO_HOME/                 mode 0700
      studiolo.db                   the store
      token                         the command line's own API token, mode 0600
      secret.key                    what people's secrets in the store are encrypted with, mode 0600
      settings.json                 what `up` was started with (port)
      generations/<id>/             built environments, immutable, shared by all workspaces
      cache/uv, cache/npm           downloads
      workspaces/<id>/home/         a person's files: outlive everything but `rm --purge`
      workspaces/<id>/state/<app>/  what an app needs at run time; disposable
      workspaces/<id>/logs/         one file per app, rotated
      logs/                         control-plane.log, host-agent.log, edge.log, relay.log
    <run>/                          mode 0700, gone after a reboot: sockets, pid files, grants
      control.sock  agent.sock  relay.sock
      grants/<label>/<key>          links to app sockets: the edge's routes
      activity/<label>              its time stamp: the last WebSocket input from a browser
      apps/<workspace id>/<app>.sock

A Unix socket's path holds at most 107 bytes (unix(7)), so `<run>` is `$STUDIOLO_HOME/run` only where that is
short enough, and otherwise a private folder under /tmp named after the data folder.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from studiolo.problem import Problem, StudioloError

# apps/<12 characters>/<40 characters>.sock is the longest thing under <run> that is connected to by its full path.
_LONGEST_BELOW_RUN = len("/apps/") + 12 + 1 + 40 + len(".sock")
_SOCKET_PATH_LIMIT = 107


@dataclass(frozen=True)
class Layout:
    """The paths of one installation. Pure: making the folders is `prepare`."""

    home: Path

    @classmethod
    def from_environment(cls) -> Layout:
        """`$STUDIOLO_HOME`, or `~/.local/share/studiolo`."""
        chosen = os.environ.get("STUDIOLO_HOME")
        home = Path(chosen).expanduser() if chosen else Path.home() / ".local/share/studiolo"
        return cls(home.absolute())

    @property
    def run(self) -> Path:
        beside = self.home / "run"
        if len(os.fsencode(beside)) + _LONGEST_BELOW_RUN <= _SOCKET_PATH_LIMIT:
            return beside
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:10]
        return Path("/tmp") / f"studiolo-{os.getuid()}-{digest}"  # noqa: S108  ownership is checked in prepare()

    @property
    def database(self) -> Path:
        return self.home / "studiolo.db"

    @property
    def token(self) -> Path:
        return self.home / "token"

    @property
    def secret_key(self) -> Path:
        return self.home / "secret.key"

    @property
    def settings(self) -> Path:
        return self.home / "settings.json"

    @property
    def generations(self) -> Path:
        return self.home / "generations"

    @property
    def cache(self) -> Path:
        return self.home / "cache"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def control_socket(self) -> Path:
        return self.run / "control.sock"

    @property
    def agent_socket(self) -> Path:
        return self.run / "agent.sock"

    @property
    def relay_socket(self) -> Path:
        return self.run / "relay.sock"

    @property
    def grants(self) -> Path:
        return self.run / "grants"

    @property
    def activity(self) -> Path:
        return self.run / "activity"

    def workspace(self, workspace_id: str) -> Path:
        return self.home / "workspaces" / workspace_id

    def workspace_home(self, workspace_id: str) -> Path:
        return self.workspace(workspace_id) / "home"

    def workspace_logs(self, workspace_id: str) -> Path:
        return self.workspace(workspace_id) / "logs"

    def app_state(self, workspace_id: str, app: str) -> Path:
        return self.workspace(workspace_id) / "state" / app

    def app_sockets(self, workspace_id: str) -> Path:
        return self.run / "apps" / workspace_id

    def prepare(self) -> None:
        """Make the folders, private to this user. Idempotent. Raises `StudioloError` if `<run>` is somebody else's."""
        for folder in (self.home, self.run):
            _private(folder)
        for folder in (
            self.generations,
            self.cache,
            self.logs,
            self.grants,
            self.activity,
            self.home / "workspaces",
            self.run / "apps",
        ):
            folder.mkdir(exist_ok=True)


def _private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise StudioloError(
            Problem(
                "home-unusable",
                f"the folder {folder} cannot be made: {error.strerror}",
                "set STUDIOLO_HOME to a folder you can write",
            )
        ) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise StudioloError(
            Problem(
                "run-folder-foreign",
                f"{folder} exists and is not a folder of yours, so nothing can be kept there safely",
                "remove it, or set STUDIOLO_HOME to another folder",
            )
        )
    if status.st_mode & 0o077:
        folder.chmod(0o700)
