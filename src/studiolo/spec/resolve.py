"""A checked workspace and the stored blocks to what is desired: every name looked up, nothing left to choose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal, TypeVar

from studiolo.names import is_name
from studiolo.problem import Problem
from studiolo.spec.check import refuse
from studiolo.spec.document import App, Blocks, Compute, DataSource, Environment, Resolved, Workspace
from studiolo.spec.repository import is_git_url, repository_name
from studiolo.spec.wording import did_you_mean, quoted

_Block = TypeVar("_Block", Environment, DataSource, Compute)

# Apps that need no more than their name.
KNOWN_APPS: Mapping[str, Literal["jupyterlab", "vscode"]] = {"jupyterlab": "jupyterlab", "vscode": "vscode"}


def resolve(document: Workspace, blocks: Blocks, *, name: str | None, repository: str | None) -> Resolved:
    """What the store keeps. `name` and `repository` override the document's; without a name it is the repository's.

    Raises `WrongInput` with a field path as `where`, all problems at once.
    """
    problems: list[Problem] = []
    environment = _block("environment", "environment", document.environment, blocks.environment, problems)
    compute = _block("compute", "compute", document.compute, blocks.compute, problems)
    data = {
        f"data[{index}]": found
        for index, wanted in enumerate(document.data)
        if (found := _block("data source", f"data[{index}]", wanted, blocks.data, problems))
    }
    apps = [app for index, wanted in enumerate(document.apps) if (app := _app(f"apps[{index}]", wanted, problems))]
    problems += [
        Problem(
            "wrong-value", f"{quoted(source.folder)} is relative", "write all of its path, such as /srv/data", where
        )
        for where, source in data.items()
        if source.folder is not None and not source.folder.startswith(("/", "~/"))
    ]
    problems += _repeated("apps", "have the name", [app.name for app in apps])
    problems += _repeated("data", "have the name", [source.name for source in data.values()])
    problems += _repeated("data", "appear at", [source.place for source in data.values()])
    if name is not None and not is_name(name):
        hint = "use lower-case letters, digits and single hyphens between them, 40 characters at most"
        problems.append(Problem("wrong-value", f"{quoted(name)} is not a name", hint, "name"))
    refuse(problems)
    assert environment is not None, "a block that was not found is a problem"
    assert compute is not None, "a block that was not found is a problem"
    chosen = repository if repository is not None else document.repository
    if chosen is not None:
        is_git_url(chosen)
    return Resolved(
        name=name or document.name or repository_name(chosen),
        repository=chosen,
        environment=environment,
        template=document.environment if isinstance(document.environment, str) else None,
        apps=tuple(apps),
        data=tuple(data.values()),
        compute=compute,
        env=document.env,
        idle=document.idle,
        setup=document.setup,
        warm=document.warm,
    )


def _block(
    what: str, where: str, wanted: str | _Block, known: Mapping[str, _Block], problems: list[Problem]
) -> _Block | None:
    if not isinstance(wanted, str):
        return wanted
    if wanted not in known:
        problems.append(_unknown(what, where, wanted, known))
        return None
    return known[wanted]


def _app(where: str, wanted: str | App, problems: list[Problem]) -> App | None:
    if not isinstance(wanted, str):
        return wanted
    if wanted not in KNOWN_APPS:
        problems.append(_unknown("app", where, wanted, KNOWN_APPS))
        return None
    return App(name=wanted, kind=KNOWN_APPS[wanted])


def _unknown(what: str, where: str, wanted: str, known: Mapping[str, object]) -> Problem:
    there = f"there are {', '.join(sorted(known))}" if known else "there are none"
    hint = did_you_mean(wanted, known)
    return Problem("unknown-block", f"there is no {what} named {quoted(wanted)}", f"{hint} {there}".strip(), where)


def _repeated(where: str, what: str, values: list[str]) -> list[Problem]:
    return [
        Problem("duplicate-name", f"{count} of them {what} {quoted(value)}", "give each its own", where)
        for value, count in Counter(values).items()
        if count > 1
    ]
