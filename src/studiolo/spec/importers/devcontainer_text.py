"""Texts of a devcontainer.json: their variables, and commands in their three forms. Pure.

A ValueError says in plain words why a text cannot be taken as it is meant.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from studiolo.spec.wording import quoted

# containers.dev/implementors/json_reference/#variables-in-devcontainerjson; `env` is an older name of `localEnv`.
# `params.` is no variable there, but it is one of ours and would be taken for it.
_VARIABLE = re.compile(
    r"\$\{(?:(?P<folder>(?:local|container)WorkspaceFolder)(?P<last>Basename)?"
    r"|(?P<where>localEnv|env|containerEnv):(?P<name>[^}:]*)(?::(?P<default>[^}]*))?"
    r"|(?P<other>devcontainerId|params\.[^}]*))\}"
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN = re.compile(r"[\w./:@%+,=-]*", re.ASCII)
_FOLDER = "containerWorkspaceFolder"


def literal(text: str, known: Mapping[str, str]) -> str:
    """The text with its variables' values. `known` are variables of the workspace that have been filled in."""

    def value(variable: re.Match[str]) -> str:
        if variable["folder"]:
            raise ValueError("where the repository will lie is not known beforehand")
        if variable["where"] == "containerEnv" and variable["name"] in known:
            return known[variable["name"]]
        if variable["where"] and variable["default"] is not None:
            return variable["default"]
        raise ValueError(_why(variable))

    return _VARIABLE.sub(value, text)


def commands(value: Any) -> list[str]:
    """Shell lines of a command: a text, a list of words, or an object of named ones of both."""
    return [_command(each) for each in (value.values() if isinstance(value, dict) else (value,))]


def _command(value: Any) -> str:
    if isinstance(value, str):
        line = _VARIABLE.sub(_in_shell, value)
    elif isinstance(value, list) and value and all(isinstance(word, str) for word in value):
        line = " ".join(_word(word) for word in value)
    else:
        raise ValueError(f"{quoted(value)} is no command: a text, or a list of words")
    # The shell's own variable, so that it is right after a `cd`, too.
    return f"{_FOLDER}=$PWD; {line}" if f"${{{_FOLDER}" in line else line


def _word(text: str) -> str:
    """One word of a command without a shell."""
    parts = []
    end = 0
    for variable in _VARIABLE.finditer(text):
        before = text[end : variable.start()]
        parts += [shlex.quote(before) if before else "", f'"{_in_shell(variable)}"']
        end = variable.end()
    rest = text[end:]
    return "".join([*parts, shlex.quote(rest) if rest or not parts else ""])


def _in_shell(variable: re.Match[str]) -> str:
    """A variable as the shell says it, or its value."""
    if variable["folder"]:
        return f"${{{_FOLDER}##*/}}" if variable["last"] else f"${{{_FOLDER}}}"
    default = variable["default"]
    if default is not None and not _PLAIN.fullmatch(default):
        raise ValueError(f"the default {quoted(default)} of a variable would be read as part of the command")
    if variable["where"] == "containerEnv" and _NAME.fullmatch(variable["name"]):
        return f"${{{variable['name']}}}" if default is None else f"${{{variable['name']}-{default}}}"
    if variable["where"] and default is not None:
        return default
    raise ValueError(_why(variable))


def _why(variable: re.Match[str]) -> str:
    if variable["other"]:
        return f"there is no {variable[0]} here"
    if variable["where"] == "containerEnv":
        return f"the value of {variable['name'] or 'a variable without a name'} is not known beforehand"
    return f"variables of the host, such as {variable['name'] or 'one without a name'}, are not passed on"
