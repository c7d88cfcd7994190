"""devcontainer.json as people write it: what becomes of it, and that nothing of it is silently dropped."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studiolo.problem import WrongInput
from studiolo.spec.importers.devcontainer import Build, Imported, read
from studiolo.spec.load import check_workspace

FILE = ".devcontainer/devcontainer.json"


def imported(value: Any, file: str = FILE) -> Imported:
    found = read(value if isinstance(value, str) else json.dumps(value), file)
    check_workspace(found.document, {})
    return found


def left(value: Any) -> list[str]:
    """Message and hint of what is not honoured, without the places."""
    return [
        f"{problem.message}; {problem.hint}" if problem.hint else problem.message
        for problem in imported(value).unhonoured
    ]


PYTHON = """\
\ufeff// For format details, see https://aka.ms/devcontainer.json. For config options, see the
// README at: https://github.com/devcontainers/templates/tree/main/src/python
{
\t"name": "Python 3",
\t// Or use a Dockerfile or Docker Compose file. More info: https://containers.dev/guide/dockerfile
\t"image": "mcr.microsoft.com/devcontainers/python:1-3.12-bullseye",

\t/* Features to add to the dev container.
\t   More info: https://containers.dev/features. */
\t"features": {
\t\t"ghcr.io/devcontainers/features/git:1": {},
\t\t"ghcr.io/devcontainers-contrib/features/poetry:2": { "version": "1.8" },
\t},

\t// Use 'forwardPorts' to make a list of ports inside the container available locally.
\t"forwardPorts": [5000, "db:5432", 5000],
\t"portsAttributes": {
\t\t"5000": { "label": "Flask app", "onAutoForward": "notify" },
\t},

\t// Use 'postCreateCommand' to run commands after the container is created.
\t"postCreateCommand": "pip3 install --user -r requirements.txt", // the // in here: "https://x"
\t"customizations": {
\t\t"vscode": {
\t\t\t"extensions": ["ms-python.python", "charliermarsh.ruff@2025.1.0", "-dbaeumer.vscode-eslint"],
\t\t\t"settings": { "python.defaultInterpreterPath": "/usr/local/bin/python" },
\t\t},
\t},
\t"remoteUser": "vscode",
}
"""

PYTHON_LEFT = """\
11:3: features.ghcr.io/devcontainers/features/git:1: not installed; Git is there where the machine or the image has it
12:3: features.ghcr.io/devcontainers-contrib/features/poetry:2: features from a registry are not installed
16:25: forwardPorts[1]: "db:5432" is not a port of the workspace itself
18:35: portsAttributes.5000.onAutoForward: nothing is announced or opened by itself: each port has a link
25:39: customizations.vscode.extensions[1]: the newest version is installed
25:70: customizations.vscode.extensions[2]: only what is named is installed, so there is nothing to leave out
26:4: customizations.vscode.settings: an editor's settings are the person's own; put the repository's into .vscode/settings.json
29:2: remoteUser: everything runs as the workspace's owner
""".splitlines()  # noqa: E501


def test_the_python_template() -> None:
    found = imported(PYTHON)
    assert found.document == {
        "name": "python-3",
        "environment": {"kind": "image", "image": "mcr.microsoft.com/devcontainers/python:1-3.12-bullseye"},
        "apps": [
            "jupyterlab",
            {"name": "vscode", "kind": "vscode", "extensions": ["ms-python.python", "charliermarsh.ruff"]},
            {"name": "flask-app", "kind": "port", "port": 5000},
        ],
        "setup": ["pip3 install --user -r requirements.txt"],
    }
    assert (found.build, found.features) == (None, ())
    assert [str(problem).removeprefix(f"{FILE}:") for problem in found.unhonoured] == PYTHON_LEFT


def test_a_dockerfile_with_local_features() -> None:
    found = imported(
        """{
          "build": {
            "dockerfile": "Dockerfile", "context": "..", "target": "dev", "cacheFrom": "ghcr.io/team/base",
            "args": { "VARIANT": "3.12", "NODE": "${localEnv:NODE:lts/*}", "TOKEN": "${localEnv:TOKEN}" }
          },
          "features": { "./tally": { "version": "2", "quiet": true, "jobs": 4 }, "./plain": "latest" },
          "overrideFeatureInstallOrder": ["./plain"],
          "remoteUser": ""
        }"""
    )
    assert found.document == {"environment": {"kind": "image", "file": FILE}}
    assert found.build == Build(".devcontainer/Dockerfile", ".", {"VARIANT": "3.12", "NODE": "lts/*"}, "dev")
    tally, plain = found.features
    assert (tally.id, tally.folder, tally.local) == ("./tally", ".devcontainer/tally", True)
    assert tally.options == {"version": "2", "quiet": True, "jobs": "4"}
    assert (plain.options, plain.where) == ({"version": "latest"}, f"{FILE}:6:82")
    assert [problem.where.removeprefix(FILE) for problem in found.unhonoured] == [":3:75", ":4:76", ":7:11"]


def test_older_keys_of_a_dockerfile() -> None:
    assert imported({"dockerFile": "docker/dev.Dockerfile", "context": "."}, ".devcontainer.json").build == Build(
        "docker/dev.Dockerfile", ".", {}, ""
    )
    # without a context it is the folder of the file
    assert imported({"build": {"dockerfile": "Dockerfile"}}).build == Build(
        ".devcontainer/Dockerfile", ".devcontainer", {}, ""
    )
    assert left({"dockerFile": "a", "image": "b", "build": {"dockerfile": "c"}}) == [
        "dockerFile: build.dockerfile counts",
        "image: the Dockerfile counts",
    ]


@pytest.mark.parametrize("path", ["../../Dockerfile", "/etc/passwd", "a/../../../b", "../.."])
def test_what_lies_outside_the_repository_is_not_built(path: str) -> None:
    for key in ("dockerfile", "context"):
        found = imported({"build": {"dockerfile": "Dockerfile", key: path}})
        assert (found.build, found.document) == (None, {})
        assert "does not lie in the repository" in found.unhonoured[0].message
    assert imported({"image": "a", "features": {path: {}}}).features == ()


def test_an_image_with_a_local_feature_is_declared_by_the_file() -> None:
    found = imported({"image": "debian:${localEnv:DEBIAN:12}", "features": {"./a": {}}})
    assert found.document["environment"] == {"kind": "image", "file": FILE}
    assert found.image == "debian:12"
    assert imported({"features": {"./a": {}}}).document == {}
    assert left({"features": {"./a": {}}}) == ["features../a: there is no image that it could be installed into"]


def test_compose_is_told_with_what_belongs_to_it() -> None:
    found = imported(
        {
            "name": "${localWorkspaceFolderBasename}",
            "dockerComposeFile": ["docker-compose.yml", "compose.extend.yml"],
            "service": "app",
            "runServices": ["db"],
            "workspaceFolder": "/workspaces/${localWorkspaceFolderBasename}",
            "shutdownAction": "stopCompose",
            "forwardPorts": [8000],
        }
    )
    assert found.document == {"apps": ["jupyterlab", "vscode", {"name": "port-8000", "kind": "port", "port": 8000}]}
    assert [problem.message.partition(":")[0] for problem in found.unhonoured] == [
        *("name", "dockerComposeFile", "service", "runServices", "workspaceFolder", "shutdownAction")
    ]


def test_every_key_that_is_not_honoured_is_listed_and_says_why() -> None:
    known = {
        "runArgs": ["--cap-add=SYS_PTRACE"],
        "mounts": ["source=x,target=/x,type=volume"],
        "workspaceMount": "source=${localWorkspaceFolder},target=/w,type=bind",
        "containerUser": "root",
        "updateRemoteUserUID": True,
        "userEnvProbe": "loginShell",
        "overrideCommand": True,
        "init": True,
        "privileged": True,
        "capAdd": ["NET_ADMIN"],
        "securityOpt": ["seccomp=unconfined"],
        "initializeCommand": "make",
        "postStartCommand": "make",
        "postAttachCommand": ["make"],
        "waitFor": "postCreateCommand",
        "otherPortsAttributes": {"onAutoForward": "ignore"},
        "secrets": {"KEY": {"description": "d"}},
        "settings": {"a": 1},
        "devPort": 1,
        "postCreatecommand": "make",
        "wholly-unknown": 1,
    }
    said = left(known)
    assert [message.partition(":")[0] for message in said] == list(known)
    assert all(message.partition(": ")[2] for message in said)
    assert "did you mean `postCreateCommand`?" in said[-2]
    # what asks for nothing is nothing that could be honoured
    assert left({"runArgs": [], "mounts": None, "features": {}, "privileged": False, "$schema": "https://x"}) == []


def test_requirements_become_the_compute() -> None:
    found = imported({"hostRequirements": {"cpus": 4, "memory": "8gb", "storage": "32gb", "gpu": "optional"}})
    assert found.document == {"compute": {"cpu": 4, "memory": "8GiB"}}
    assert check_workspace(found.document, {}).compute.memory == 8 * 2**30  # type: ignore[union-attr]
    assert len(found.unhonoured) == 2
    assert imported({"hostRequirements": {"memory": 1024}}).document == {"compute": {"memory": "1024B"}}
    assert left({"hostRequirements": {"cpus": 0, "memory": "much"}}) == [
        'hostRequirements.cpus: "0" is not a number of cores; write 2, 0.5 or 500m',
        'hostRequirements.memory: "much" is not a size; write 8GiB',
    ]


def test_variables_are_filled_in_or_listed() -> None:
    found = imported(
        {
            "containerEnv": {"A": "1", "B": "two", "N": 3, "T": True},
            "remoteEnv": {
                "B": "${containerEnv:A}-${containerEnv:NOPE:none}",
                "HOST": "${localEnv:HOST:here}",
                "PATH": "${containerEnv:PATH}:/opt/bin",
                "WHERE": "${containerWorkspaceFolder}/data",
                "ME": "${localEnv:USER}",
                "ID": "${devcontainerId}",
                "OURS": "${params.year}",
                "SHELL_LIKE": "${HOME}",
                "GONE": None,
                "not-a-name": "x",
                "LIST": ["x"],
            },
        }
    )
    assert found.document == {
        "env": {"A": "1", "B": "1-none", "N": "3", "T": "true", "HOST": "here", "SHELL_LIKE": "${HOME}"}
    }
    assert [problem.message.removeprefix("remoteEnv.") for problem in found.unhonoured] == [
        "PATH: the value of PATH is not known beforehand",
        "WHERE: where the repository will lie is not known beforehand",
        "ME: variables of the host, such as USER, are not passed on",
        "ID: there is no ${devcontainerId} here",
        "OURS: there is no ${params.year} here",
        "GONE: a variable cannot be taken away",
        'not-a-name: "not-a-name" is not a variable\'s name',
        "LIST: must be text, not a list",
    ]


def test_commands_of_every_form_are_run_in_the_order_in_which_a_container_is_made() -> None:
    found = imported(
        {
            "postCreateCommand": {"data": "make data", "hooks": ["pre-commit", "install", "--hook-type=it's"]},
            "updateContentCommand": ["git", "lfs", "pull"],
            "onCreateCommand": "pip install -e . && echo done",
        }
    )
    assert found.document["setup"] == [
        "pip install -e . && echo done",
        "git lfs pull",
        "make data",
        """pre-commit install '--hook-type=it'"'"'s'""",
    ]
    assert found.unhonoured == ()


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (
            "cd ${containerWorkspaceFolder}/web && npm ci",
            "containerWorkspaceFolder=$PWD; cd ${containerWorkspaceFolder}/web && npm ci",
        ),
        (
            ["ls", "${localWorkspaceFolder}/my data", ""],
            "containerWorkspaceFolder=$PWD; ls \"${containerWorkspaceFolder}\"'/my data' ''",
        ),
        (
            "echo ${localWorkspaceFolderBasename}",
            "containerWorkspaceFolder=$PWD; echo ${containerWorkspaceFolder##*/}",
        ),
        ("echo ${containerEnv:HOME} $HOME ${HOME}", "echo ${HOME} $HOME ${HOME}"),
        ("echo ${containerEnv:X:a/b}", "echo ${X-a/b}"),
        (["echo", "${containerEnv:X}"], 'echo "${X}"'),
        ("make ${localEnv:TARGET:all}", "make all"),
    ],
)
def test_variables_in_commands_are_the_shells(command: Any, line: str) -> None:
    assert imported({"postCreateCommand": command}).document == {"setup": [line]}


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf ${localEnv:SOMEWHERE}/",
        "echo ${devcontainerId}",
        "make ${localEnv:X:a; reboot}",
        "echo ${containerEnv:X:$(reboot)}",
        "echo ${params.year}",
        ["echo", 1],
        7,
        {"good": "make", "bad": "echo ${localEnv:X}"},
    ],
)
def test_a_command_that_cannot_be_what_was_meant_is_not_run(command: Any) -> None:
    found = imported({"onCreateCommand": "make first", "postCreateCommand": command})
    assert found.document == {"setup": ["make first"]}
    (problem,) = found.unhonoured
    assert problem.message.startswith("postCreateCommand: not run: ")


def test_ports_become_apps_with_names_of_their_own() -> None:
    found = imported(
        {
            "forwardPorts": [3000, "3001", "localhost:3002", 3003, 3004, 3005, 3006],
            "appPort": [9000, "8080:80"],
            "portsAttributes": {
                "3000": {"label": "Web", "protocol": "http"},
                "3001": {"label": "web"},
                "3002": {"label": "Documentation server"},
                "3003": {"label": "A dashboard of all"},
                "3004": {"label": "VSCode"},
                "3005": {"label": "port 3006"},
                "3006": {"label": "💡"},
            },
        }
    )
    ports = {app["port"]: app["name"] for app in found.document["apps"][2:]}
    assert ports == {
        3000: "web",
        3001: "port-3001",
        3002: "port-3002",
        3003: "a",
        3004: "port-3004",
        3005: "port-3005",
        3006: "port-3006",
        9000: "port-9000",
    }
    assert [problem.message for problem in found.unhonoured] == [
        'appPort[1]: "8080:80" is not a port of the workspace itself'
    ]


def test_ports_that_cannot_be_reached_are_listed() -> None:
    said = left(
        {
            "forwardPorts": [80, 70000, True, 8443],
            "appPort": 3000,
            "portsAttributes": {"8443": {"protocol": "https"}, "6006": {"label": "TensorBoard"}, "x": 1},
        }
    )
    assert [message.partition(":")[0] for message in said] == [
        *(f"forwardPorts[{index}]" for index in range(4)),
        *("portsAttributes.6006", "portsAttributes.x"),
    ]


@pytest.mark.parametrize("value", [1, "x", ["x"], {"x": 1}, True, 0.5])
@pytest.mark.parametrize(
    "key",
    [
        *("image", "build", "features", "customizations", "forwardPorts", "portsAttributes", "hostRequirements"),
        *("containerEnv", "remoteEnv", "onCreateCommand", "postCreateCommand", "extensions", "appPort", "dockerFile"),
        "name",
    ],
)
def test_a_value_of_another_type_is_listed_or_taken(key: str, value: Any) -> None:
    found = imported({key: value})
    assert found.unhonoured or found.document or found.build


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", 'd.json:1:1: the file is not an object; write { "image": "..." }'),
        ("[]", 'd.json:1:1: the file is not an object; write { "image": "..." }'),
        ("{\n  \"image\": 'x'\n}", "d.json:2:12: not JSON: \"'x'\" is no value; write texts in double quotes"),
        (
            '{\n  "a": 1\n  "b": 2\n}',
            'd.json:3:3: not JSON: here should be a comma or }, not "b"',
        ),
        ('{\r\n"a": [1,,]}', "d.json:2:9: not JSON: here should be a value, not a comma"),
        ('{"a": 1', "d.json:1:8: not JSON: here should be a comma or }, not the end of the file"),
        ('{"a": 1} {', "d.json:1:10: not JSON: here should be the end of the file, not {"),
        (
            '{"a": "b\n"}',
            'd.json:1:7: not JSON: a text begins here and does not end; close it with ", on the same line',
        ),
        ("{ /* a", "d.json:1:3: not JSON: a comment begins here and does not end; close it with */"),
        ('{"a": NaN}', 'd.json:1:7: not JSON: "NaN" is no value; write texts in double quotes'),
        ('{"a": 1, "a": 2}', "d.json:1:10: a: the key is there twice, first in line 1; keep one of them"),
        ('{"a": "\\ud800"}', "d.json:1:2: a: holds a character that no program can be given"),
        ('{"a": "\\u0000"}', "d.json:1:2: a: holds a character that no program can be given"),
    ],
)
def test_what_is_no_json_is_told_with_its_place(text: str, problem: str) -> None:
    with pytest.raises(WrongInput) as caught:
        read(text, FILE, "d.json")
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"a":' * 5000, "too-deep"),
        ('{"a":[' + "1," * 20_000 + "]}", "too-large"),
        ('{"a":"' + "x" * 300_000 + '"}', "too-large"),
        ('{"a":' + "9" * 10_000 + "}", "not-json"),
    ],
)
def test_hostile_files_are_refused(text: str, code: str) -> None:
    with pytest.raises(WrongInput) as caught:
        read(text, FILE)
    assert caught.value.problem.code == code


def test_every_kind_of_escape_and_number_is_read() -> None:
    value = {"containerEnv": {"A": 'é\t"\\/\u2028', "B": "// no /* comment */", "C": "x,}", "D": -1.5e3, "E": "💡"}}
    env = imported(json.dumps(value)).document["env"]
    assert env == {**value["containerEnv"], "D": "-1500.0"}
    assert imported(json.dumps(value, ensure_ascii=False, indent=3)).document["env"] == env


_TEXTS = st.text(max_size=12) | st.sampled_from(
    ["${localEnv:X}", "${containerWorkspaceFolder}", "${params.a}", "python:3.12", "./a", "3000", "ms-python.python"]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 70_000) | st.floats(allow_nan=False) | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=8,
)
_KEYS = st.sampled_from(
    [
        *("name", "image", "build", "dockerFile", "context", "features", "customizations", "forwardPorts", "appPort"),
        *("portsAttributes", "hostRequirements", "containerEnv", "remoteEnv", "onCreateCommand", "postCreateCommand"),
    ]
)
_BUILD = st.fixed_dictionaries({}, optional={"dockerfile": _VALUES, "context": _VALUES, "args": _VALUES})


@given(st.dictionaries(_KEYS | _TEXTS, _VALUES | _BUILD, max_size=6))
def test_whatever_is_read_is_a_document(value: dict[str, Any]) -> None:
    try:
        found = read(json.dumps(value), FILE)
    except WrongInput:
        return
    check_workspace(found.document, {})
    assert all(problem.where.startswith(f"{FILE}:1:") and problem.message for problem in found.unhonoured)
