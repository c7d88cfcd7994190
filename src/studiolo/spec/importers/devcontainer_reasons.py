"""Why parts of a devcontainer.json are not honoured, and what to do instead: (why, hint) by key."""

from __future__ import annotations

from collections.abc import Mapping

_ENGINE = ("options of a container's start are not handed on", "")
_COMPOSE = ("a workspace is one place, not several containers", "run the others beside it, or name an image")
_USER = ("everything runs as the workspace's owner", "")
_FOLDER = ("Studiolo decides where the repository lies", "name further folders under data in studiolo.yaml")
_EACH = ("nothing is run at every start or visit", "setup in studiolo.yaml is run once, in a new workspace")

REASONS: Mapping[str, tuple[str, str]] = {
    "runArgs": _ENGINE,
    "init": _ENGINE,
    "privileged": _ENGINE,
    "capAdd": _ENGINE,
    "securityOpt": _ENGINE,
    "overrideCommand": ("apps are run, whatever the image's own command is", ""),
    "dockerComposeFile": _COMPOSE,
    "service": _COMPOSE,
    "runServices": _COMPOSE,
    "shutdownAction": ("a workspace stops when it is idle or told to", "see idle in studiolo.yaml"),
    "mounts": ("folders and volumes are not mounted from here", "name them under data in studiolo.yaml"),
    "workspaceMount": _FOLDER,
    "workspaceFolder": _FOLDER,
    "remoteUser": _USER,
    "containerUser": _USER,
    "updateRemoteUserUID": _USER,
    "userEnvProbe": ("no login shell is asked for variables", "name them under env in studiolo.yaml"),
    "initializeCommand": ("it would run on the host, outside the workspace", ""),
    "postStartCommand": _EACH,
    "postAttachCommand": _EACH,
    "waitFor": ("apps open at once, and commands go on beside them", ""),
    "otherPortsAttributes": ("only ports in forwardPorts are reached", ""),
    "overrideFeatureInstallOrder": ("features are installed in the order in which they are named", ""),
    "secrets": ("a workspace is not given secrets as variables", ""),
    "settings": ("an editor's settings are the person's own", "put the repository's into .vscode/settings.json"),
    "devPort": ("the editor chooses where it listens", ""),
}

PUBLISHED = "features from a registry are not installed"
_OFFICIAL = "ghcr.io/devcontainers/features/"
PRESENT: Mapping[str, str] = {
    f"{_OFFICIAL}common-utils": "not installed; a shell and its everyday tools are there anyway",
    f"{_OFFICIAL}git": "not installed; Git is there where the machine or the image has it",
}
"""Features that mostly bring what is there anyway."""
ELSEWHERE: Mapping[str, str] = {
    f"{_OFFICIAL}python": "say environment.python in studiolo.yaml, where there is no image",
    f"{_OFFICIAL}conda": "an environment.yml in the repository needs no conda",
    f"{_OFFICIAL}nix": "a flake.nix in the repository is an environment of its own",
}
"""What to do instead of some others."""
