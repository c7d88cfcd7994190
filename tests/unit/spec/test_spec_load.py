"""Documents from files and from the API's data: all problems at once, each with its place and a suggestion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studiolo.problem import Problem, WrongInput
from studiolo.spec.document import App, Compute, DataSource, Environment, Workspace
from studiolo.spec.load import BlockKind, check_block, check_workspace, load_block, load_workspace


def problems(text: str, **given: str) -> tuple[Problem, ...]:
    with pytest.raises(WrongInput) as caught:
        load_workspace(text, "studiolo.yaml", given)
    return caught.value.problems


def only(text: str, **given: str) -> str:
    (problem,) = problems(text, **given)
    return str(problem)


FULL = """\
name: analysis
params:
  cores: {type: int, default: 2, description: how many}
repository: https://example.org/team/analysis.git
environment:
  python: 3.10
  packages: [polars>=1, "scikit-learn"]
  project: sub/folder
apps:
  - jupyterlab
  - name: board
    command: [streamlit, run, app.py, --server.port, "{port}"]
    ready: /healthz
    timeout: 90s
  - {name: lab2, kind: jupyterlab, extensions: [jupyterlab-git]}
data:
  - datasets
  - {name: raw, folder: /srv/raw, path: in/raw}
compute:
  cpu: ${params.cores}
  memory: 8GiB
env:
  DEBUG: no
  PORT: 8080
  RATE: 0.50
  EMPTY: ""
  GREETING: "with ${params.cores} cores, ${HOME}"
idle:
  after: 1h30m
"""


def test_a_full_document() -> None:
    loaded = load_workspace(FULL, "studiolo.yaml", {"cores": "4"})
    document = loaded.document

    assert document.environment == Environment(
        python="3.10", packages=("polars>=1", "scikit-learn"), project="sub/folder"
    )
    assert document.compute == Compute(cpu=4.0, memory=8 * 2**30)
    assert document.apps[0] == "jupyterlab"
    assert isinstance(document.apps[1], App)
    assert document.apps[1].timeout == 90.0
    assert document.data == ("datasets", DataSource(name="raw", folder="/srv/raw", path="in/raw"))
    assert document.idle.after == 5400.0
    assert document.env == {
        "DEBUG": "no",
        "PORT": "8080",
        "RATE": "0.50",
        "EMPTY": "",
        "GREETING": "with 4 cores, ${HOME}",
    }
    assert loaded.data["compute"]["cpu"] == "${params.cores}", "as it was before parameters"
    sent = json.loads(json.dumps(loaded.data))
    assert check_workspace(sent, {"cores": "4"}) == document, "the API reads what the file says"


def test_everything_may_be_left_out() -> None:
    empty = load_workspace("", "studiolo.yaml", {}).document
    assert empty == Workspace()
    assert empty.apps == ("jupyterlab", "vscode")
    assert load_workspace("compute:\napps:\nenvironment:\n  python:\nenv:\n", "f", {}).document == empty


def test_the_design_s_own_example() -> None:
    text = "\n" * 10 + "compute:\n    memory: 8 GB\n"
    assert only(text) == 'studiolo.yaml:12:5: compute.memory: "8 GB" is not a size; write 8GiB'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("compute:\n  memmory: 8GiB", "2:3: compute.memmory: unknown key `memmory` in compute; did you mean `memory`?"),
        ("aps: [vscode]", "1:1: aps: unknown key `aps`; did you mean `apps`?"),
        ("xyzzy: 1", "1:1: xyzzy: unknown key `xyzzy`; known are name, params, repository, environment, "),
        ("xyzzy:", "1:1: xyzzy: unknown key `xyzzy`; known are "),
        ("idle: {aftr: 1h}", "1:8: idle.aftr: unknown key `aftr` in idle; did you mean `after`?"),
        (
            "apps: [{name: a, kind: vscode, comand: [x]}]",
            "1:32: apps[0].comand: unknown key `comand` in apps[0]; did you mean `command`?",
        ),
        (
            "params: {a: {typ: int}}",
            "1:14: params.a.typ: unknown key `typ` in params.a; did you mean `type`?",
        ),
        ("data: [{nam: x, name: x}]", "1:9: data[0].nam: unknown key `nam` in data[0]; did you mean `name`?"),
        ("apps: jupyterlab", '1:1: apps: must be a list, not "jupyterlab"; write [jupyterlab]'),
        ("apps: {jupyterlab: 1}", "1:1: apps: must be a list, not a mapping"),
        ("environment: {packages: pandas}", '1:15: environment.packages: must be a list, not "pandas"; write [pandas]'),
        ("environment: [pandas]", "1:1: environment: must be a name, or a mapping with the block's fields, not a list"),
        ("environment: Big Data", '1:1: environment: "Big Data" is not a name; write big-data'),
        ("apps: [[a]]", "1:8: apps[0]: must be a name, or a mapping with the block's fields, not a list"),
        ("idle: 30m", '1:1: idle: must be a mapping, not "30m"'),
        ("idle: {after: 30}", '1:8: idle.after: "30" is not a duration; write 30s or 30m'),
        ("env: [A=1]", "1:1: env: must be a mapping, not a list"),
        ("env: {A: [1]}", "1:7: env.A: must be text or a number, not a list"),
        ("env: {A: }", "1:7: env.A: must be text or a number, not nothing"),
        ("env: {MY-VAR: 1}", '1:7: env.MY-VAR: "MY-VAR" is not a variable\'s name; use '),
        ("name: [a]", "1:1: name: must be text, not a list"),
        ("compute: {cpu: two}", '1:11: compute.cpu: "two" is not a number of cores; write 2, 0.5 or 500m'),
        ("compute: {memory: 8 gb}", '1:11: compute.memory: "8 gb" is not a size; write 8GiB'),
        ("environment: {python: 2.7}", '1:15: environment.python: "2.7" is not a Python version; write 3.12'),
        ('environment: {python: "3.12\\n"}', '1:15: environment.python: "3.12\\n" is not a Python version; write 3.12'),
        ("environment: {packages: [-r x]}", '1:26: environment.packages[0]: "-r x" is not a package; write '),
        ('environment: {packages: ["a\\n-r b"]}', '1:26: environment.packages[0]: "a\\n-r b" is not a package; '),
        ("environment: {project: ../x}", '1:15: environment.project: "../x" does not lie in the repository; '),
        ("data: [{name: a, path: /etc}]", '1:18: data[0].path: "/etc" does not lie in the home; '),
        ("data: [{name: a, path: ./}]", '1:18: data[0].path: "./" is the home itself; '),
        ("data: [{name: a, folder: ' '}]", '1:18: data[0].folder: " " is not a folder of the host; '),
        ("data: [{folder: /b}]", "1:8: data[0].name: `name` is missing; write name: ..."),
        ("apps: [{name: a}]", "1:8: apps[0]: needs a command; write "),
        ("apps: [{name: a, command: [x]}]", "1:8: apps[0]: the command does not say where to listen; use {port} or "),
        ("apps: [{name: a, kind: vscode, command: [x]}]", "1:8: apps[0]: vscode brings its own command; "),
        (
            "apps: [{name: a, kind: vscod}]",
            '1:18: apps[0].kind: "vscod" is not one of jupyterlab, vscode, command, port; did you mean `vscode`?',
        ),
        ("apps: [{name: a, kind: port}]", "1:8: apps[0]: needs a port; write port: 3000"),
        ("apps: [{name: a, kind: port, port: 80}]", '1:30: apps[0].port: "80" is not a port that a program of yours '),
        ("apps: [{name: a, kind: port, port: web}]", '1:30: apps[0].port: "web" is not a port that a program of'),
        ("apps: [{name: a, kind: port, port: 3000, command: [x]}]", "1:8: apps[0]: a port has no command; start the"),
        ("apps: [{name: a, kind: port, port: 3000, extensions: [x]}]", "1:8: apps[0]: extensions belong to jupyter"),
        ("apps: [{name: a, kind: vscode, port: 3000}]", "1:8: apps[0]: vscode has no port of its own; use kind: port"),
        (
            "apps: [{name: a, kind: vscode, ready: health}]",
            '1:32: apps[0].ready: "health" is not a path; write / or /health',
        ),
        ("repository: git@h:x/y", '1:1: repository: "git@h:x/y" is an SSH address, and only https:// is cloned; '),
    ],
)
def test_a_mistake_is_told_in_plain_words(text: str, told: str) -> None:
    assert only(text).startswith(f"studiolo.yaml:{told}")


def test_all_mistakes_are_told_at_once_from_top_to_bottom() -> None:
    found = problems(
        "name: My Room\nparams: {n: {type: int, default: x}}\ncompute:\n  cpu: ${params.m}\n  memory: 8 GB\n"
        "apps: [vscode, {name: a--b, kind: vscode}]\nfoo: 1\n",
        wrong="1",
    )
    assert [(problem.where.removeprefix("studiolo.yaml:"), problem.code) for problem in found] == [
        ("1:1", "wrong-value"),
        ("2:1", "unknown-param"),
        ("2:25", "wrong-value"),
        ("4:3", "unknown-param"),
        ("5:3", "wrong-value"),
        ("6:17", "wrong-value"),
        ("7:1", "unknown-key"),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "a/b",
        "a--b",
        "-a",
        "a-",
        "A",
        "é",
        "名前",
        "a b",
        "a.b",
        "a_b",
        "x" * 41,
        "x" * 300,
        "..",
        "",
        "a\n",
        "a\r",
        "ａ",
    ],
)
@pytest.mark.parametrize("template", ["name: %s", "compute: %s", "apps: [{kind: vscode, name: %s}]", "data: [%s]"])
def test_what_is_no_name_is_refused_everywhere(name: str, template: str) -> None:
    told = only(template % json.dumps(name))
    assert "is not a name" in told
    assert len(told) < 250
    assert "\n" not in told


def test_the_api_hears_field_paths() -> None:
    with pytest.raises(WrongInput) as caught:
        check_workspace({"compute": {"memory": "8 GB"}, "apps": [{"name": "a", "kind": "vscode", "x": 1}]}, {})
    assert [str(problem) for problem in caught.value.problems] == [
        "apps[0].x: unknown key `x` in apps[0]; known are name, kind, command, port, ready, timeout, extensions",
        'compute.memory: "8 GB" is not a size; write 8GiB',
    ]


def test_json_numbers_and_booleans_mean_what_they_say() -> None:
    document = check_workspace(
        {
            "name": 2026,
            "environment": {"python": 3.12},
            "compute": {"cpu": 0.5, "memory": 2**30},
            "env": {"PORT": 8080, "ON": True},
            "idle": {"after": 90},
        },
        {},
    )
    assert document.name == "2026"
    assert document.environment == Environment(python="3.12")
    assert document.compute == Compute(cpu=0.5, memory=2**30)
    assert document.env == {"PORT": "8080", "ON": "true"}
    assert document.idle.after == 90.0


def _nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"env": {"A": "a\0b"}}, "wrong-value"),
        ({"env": {"A": "\ud800"}}, "wrong-value"),
        ({"env": {"A\0": "b"}}, "wrong-value"),
        ({"env": {1: "b"}}, "wrong-value"),
        ({"env": {f"A{number}": "x" for number in range(10_000)}}, "too-large"),
        ({"env": {"A": "x" * 300_000}}, "too-large"),
        ({"apps": _nested(100_000)}, "too-deep"),
        ({"compute": {"memory": 10**5000}}, "wrong-value"),
        ({"compute": {"memory": "9" * 5000}}, "wrong-value"),
        ({"compute": {"cpu": float("nan")}}, "wrong-value"),
        ({"compute": {"cpu": True}}, "wrong-value"),
        ({"idle": {"after": float("inf")}}, "wrong-value"),
        ({"idle": {"after": -1}}, "wrong-value"),
        ({"env": "${params.x}", "params": []}, "wrong-value"),
        ({"params": {"x": {"default": []}}}, "wrong-value"),
        ({"params": {"x": "y"}}, "wrong-value"),
        ({"params": {"a b": {}}}, "wrong-value"),
    ],
)
def test_hostile_data_is_refused(data: dict[str, Any], code: str) -> None:
    with pytest.raises(WrongInput) as caught:
        check_workspace(data, {})
    assert code in {problem.code for problem in caught.value.problems}
    assert all(len(str(problem)) < 400 for problem in caught.value.problems)


def test_a_flood_of_problems_is_cut_short() -> None:
    found = problems("".join(f"key{number}: 1\n" for number in range(500)))
    assert len(found) == 51
    assert "450 more" in found[-1].message


def test_what_a_person_writes_is_never_repeated_raw() -> None:
    told = only('name: "\\e[31mred\\n' + "x" * 500 + '"')
    assert "\x1b" not in told
    assert "\n" not in told
    assert len(told) < 250


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_shaped = st.fixed_dictionaries(
    {},
    optional={
        key: _json
        | st.dictionaries(
            st.sampled_from(
                ["python", "packages", "cpu", "memory", "after", "name", "kind", "type", "default", "<name>"]
            ),
            _json,
            max_size=4,
        )
        | st.lists(st.dictionaries(st.sampled_from(["name", "kind", "command", "path", "x"]), _json), max_size=3)
        for key in (
            "name",
            "params",
            "repository",
            "environment",
            "apps",
            "data",
            "compute",
            "env",
            "idle",
            "warm",
            "other",
        )
    },
)


@given(_shaped, st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2))
def test_any_data_is_a_document_or_a_list_of_problems(data: dict[str, Any], params: dict[str, str]) -> None:
    try:
        document = check_workspace(data, params)
    except WrongInput as error:
        assert all(problem.message and str(problem).isprintable() for problem in error.problems)  # noqa: PT017
    else:
        assert Workspace.model_validate(document.model_dump(mode="json")) == document


def test_starts_are_kept_ready_of_commands_only_and_the_line_is_told() -> None:
    command = "apps:\n  - {name: board, command: [board, '{port}']}\n"
    assert load_workspace(f"{command}warm: 2\n", "studiolo.yaml", {}).document.warm == 2
    wrong = {
        "warm: 2\n": "1:1: warm: starts are kept ready of apps of kind command only, and jupyterlab is none; "
        "leave out `warm`, or list other apps",
        "apps: [{name: web, kind: port, port: 3000}]\nwarm: 1\n": "2:1: warm: starts are kept ready of apps of kind "
        "command only, and web is none; leave out `warm`, or list other apps",
        f"{command}warm: many\n": '3:1: warm: "many" is not a number of starts to keep ready; write 0 to 20',
        f"{command}warm: 21\n": '3:1: warm: "21" is not a number of starts to keep ready; write 0 to 20',
    }
    for text, told in wrong.items():
        with pytest.raises(WrongInput) as caught:
            load_workspace(text, "studiolo.yaml", {})
        assert [str(problem) for problem in caught.value.problems] == [f"studiolo.yaml:{told}"]


@pytest.mark.parametrize(
    ("kind", "text", "block"),
    [
        ("environment", "name: dl\npython: 3.12\npackages: [torch]", Environment(python="3.12", packages=("torch",))),
        ("environment", "name: dl", Environment()),
        ("compute", "name: dl\ncpu: 500m\nmemory: 1.5GiB", Compute(cpu=0.5, memory=3 * 2**29)),
        ("data", "name: dl\nfolder: /srv/x", DataSource(name="dl", folder="/srv/x")),
    ],
)
def test_a_block_file_is_a_name_and_the_block_s_fields(kind: BlockKind, text: str, block: object) -> None:
    assert load_block(kind, text, "block.yaml") == ("dl", block)


def test_a_wrong_block_file_is_told_like_a_workspace() -> None:
    with pytest.raises(WrongInput) as caught:
        load_block("compute", "nam: big\ncpu: many\n", "block.yaml")
    assert [str(problem) for problem in caught.value.problems] == [
        "block.yaml:1:1: name: `name` is missing; write name: ...",
        "block.yaml:1:1: nam: unknown key `nam`; did you mean `name`?",
        'block.yaml:2:1: cpu: "many" is not a number of cores; write 2, 0.5 or 500m',
    ]
    with pytest.raises(WrongInput, match=r'^name: "A B" is not a name; write a-b$'):
        check_block("data", {"name": "A B"})


def test_every_example_is_right() -> None:
    for file in sorted((Path(__file__).parents[3] / "examples").glob("*/studiolo.yaml")):
        loaded = load_workspace(file.read_bytes(), str(file), {})
        assert "jupyterlab" in loaded.document.apps
        assert loaded.document.repository == "."
