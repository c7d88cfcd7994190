"""From a document and the stored blocks to what is desired."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studiolo.names import LABEL_LENGTH, Label, is_name
from studiolo.problem import WrongInput
from studiolo.spec.builtin import builtin_blocks
from studiolo.spec.document import App, Blocks, Compute, DataSource, Environment, Resolved, Workspace
from studiolo.spec.load import load_workspace
from studiolo.spec.repository import is_git_url, repository_name
from studiolo.spec.resolve import resolve


def resolved(
    text: str, blocks: Blocks | None = None, name: str | None = None, repository: str | None = None
) -> Resolved:
    document = load_workspace(text, "f", {}).document
    return resolve(document, blocks or builtin_blocks(), name=name, repository=repository)


def told(text: str, blocks: Blocks | None = None, **more: str) -> list[str]:
    with pytest.raises(WrongInput) as caught:
        resolved(text, blocks, **more)
    return [str(problem) for problem in caught.value.problems]


def test_nothing_said_is_both_apps_without_limits() -> None:
    assert resolved("") == Resolved(
        name="workspace",
        apps=(App(name="jupyterlab", kind="jupyterlab"), App(name="vscode", kind="vscode")),
    )


def test_names_become_blocks() -> None:
    desired = resolved(
        "environment: data-science\ncompute: cpu-mid\ndata: [datasets, {name: raw, folder: /srv}]\napps: [vscode]\n"
        "env: {A: 1}\nidle: {after: 2h}"
    )
    assert desired.environment.packages == ("pandas", "scikit-learn", "matplotlib")
    assert desired.compute == Compute(cpu=2.0, memory=8 * 2**30)
    assert [(source.name, source.place) for source in desired.data] == [("datasets", "datasets"), ("raw", "data/raw")]
    assert desired.apps == (App(name="vscode", kind="vscode"),)
    assert desired.env == {"A": "1"}
    assert desired.idle.after == 7200.0


@pytest.mark.parametrize(("name", "cores", "gibibytes"), [("cpu-small", 1, 2), ("cpu-mid", 2, 8), ("cpu-large", 4, 16)])
def test_compute_that_comes_built_in(name: str, cores: float, gibibytes: int) -> None:
    assert resolved(f"compute: {name}").compute == Compute(cpu=cores, memory=gibibytes * 2**30)


def test_built_in_blocks_are_named_by_names() -> None:
    blocks = builtin_blocks()
    assert all(is_name(name) for name in (*blocks.environment, *blocks.data, *blocks.compute))
    assert all(name == source.name for name, source in blocks.data.items())


def test_all_unknown_names_are_told_with_what_there_is() -> None:
    assert told("environment: data-scince\ncompute: cpu-smal\ndata: [xyz]\napps: [vscode, jupyter-lab]") == [
        'environment: there is no environment named "data-scince"; did you mean `data-science`? there are data-science',
        (
            'compute: there is no compute named "cpu-smal"; did you mean `cpu-small`? '
            "there are cpu-large, cpu-mid, cpu-small"
        ),
        'data[0]: there is no data source named "xyz"; there are datasets',
        'apps[1]: there is no app named "jupyter-lab"; did you mean `jupyterlab`? there are jupyterlab, vscode',
    ]
    assert told("data: [xyz]", Blocks()) == ['data[0]: there is no data source named "xyz"; there are none']


def test_a_problem_found_here_can_be_placed_in_the_file() -> None:
    loaded = load_workspace("name: a\napps:\n  - vscode\n  - vscod\n", "studiolo.yaml", {})
    with pytest.raises(WrongInput) as caught:
        resolve(loaded.document, Blocks(), name=None, repository=None)
    assert str(loaded.positions.located(caught.value.problem)).startswith("studiolo.yaml:4:5: apps[1]: there is no app")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("apps: [vscode, vscode]", 'apps: 2 of them have the name "vscode"'),
        ("apps: [vscode, {name: vscode, kind: jupyterlab}]", 'apps: 2 of them have the name "vscode"'),
        ("data: [{name: a, path: x}, {name: a, path: y}]", 'data: 2 of them have the name "a"'),
        ("data: [{name: a, path: x}, {name: b, path: ./x/}]", 'data: 2 of them appear at "x"'),
        ("data: [{name: a}, {name: b, path: data/a}]", 'data: 2 of them appear at "data/a"'),
    ],
)
def test_two_of_one_name_or_place_are_refused(text: str, words: str) -> None:
    assert told(text) == [f"{words}; give each its own"]


def test_a_folder_of_the_host_is_whole_by_now() -> None:
    told_of = told("data: [datasets, {name: a, folder: raw}, {name: b, folder: /srv}, {name: c, folder: ~/c}]")
    assert told_of == ['data[1]: "raw" is relative; write all of its path, such as /srv/data']


def test_given_name_and_repository_come_first() -> None:
    text = "name: mine\nrepository: /srv/one"
    assert resolved(text).name == "mine"
    assert resolved(text, name="yours").name == "yours"
    assert resolved(text, repository="/srv/two").repository == "/srv/two"
    assert resolved("repository: /srv/one").name == "one"
    assert resolved("repository: /srv/one", repository="https://example.org/a/Two_B.git").name == "two-b"
    assert told(text, name="A b")[0].startswith('name: "A b" is not a name')
    assert told(text, repository="ssh://h/x")[0].startswith("repository: ssh:// is not cloned")


@pytest.mark.parametrize(
    ("repository", "name"),
    [
        (None, "workspace"),
        (".", "workspace"),
        ("/", "workspace"),
        ("/home/ada/My Analysis_2", "my-analysis-2"),
        ("https://example.org/a/b.git", "b"),
        ("https://example.org/a/b.git/", "b"),
        ("/srv/日本", "workspace"),
        ("/srv/" + "long-" * 30, "long-long-long-long-long-long"),
    ],
)
def test_default_names(repository: str | None, name: str) -> None:
    assert repository_name(repository) == name


@given(st.text(max_size=80))
def test_a_default_name_fits_into_a_host_label(text: str) -> None:
    name = repository_name(text)
    assert is_name(name)
    assert len(str(Label("jupyterlab", name, "a" * 12))) <= LABEL_LENGTH


@pytest.mark.parametrize(
    "text",
    ["https://example.org/a/b", "https://example.org:8443/b.git", "https://[::1]/b", "https://127.0.0.1:1/a%20b"],
)
def test_https_is_cloned(text: str) -> None:
    assert is_git_url(text)


@pytest.mark.parametrize("text", [".", "..", "/srv/x", "~/x", "./a:b", "a b", "名前", "sub/x:y", "github.com/a/b"])
def test_anything_else_without_a_scheme_is_a_folder(text: str) -> None:
    assert not is_git_url(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("http://example.org/a", "http:// is not cloned"),
        ("HTTPS://example.org/a", "HTTPS:// is not cloned"),
        ("ssh://git@example.org/a", "ssh:// is not cloned"),
        ("git://example.org/a", "git:// is not cloned"),
        ("file:///etc", "file:// is not cloned"),
        ("ext::sh -c id", "ext:: is not cloned"),
        ("git+ssh://x/y", "is not cloned"),
        ("git@example.org:a/b", "is an SSH address"),
        ("example.org:a/b", "is an SSH address"),
        ("--upload-pack=id", "read as an option"),
        ("https://ada:secret@example.org/a", "user name or password"),
        ("https://secret@example.org/a", "user name or password"),
        ("https://", "is not a URL"),
        ("https:///a", "is not a URL"),
        ("https://[::1/a", "is not a URL"),
        ("https://a:99999/b", "is not a URL"),
        ("https://a b/c", "is not a URL"),
        ("https://example.org\\@evil/x", "user name or password"),
        ("https://example.org\\x/y", "is not a URL"),
        ("https://example.org", "is not a repository's address"),
        ("https://example.org/", "is not a repository's address"),
        ("https://example.org/a?token=1", "is not a repository's address"),
        ("https://example.org/a#b", "is not a repository's address"),
        ("https://example.org/a\n", "cannot be printed"),
        ("/srv/\x1b[31m", "cannot be printed"),
    ],
)
def test_other_addresses_are_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(WrongInput) as caught:
        is_git_url(text)
    assert reason in caught.value.problem.message
    assert caught.value.problem.where == "repository"
    assert "secret" not in str(caught.value)


_sizes = st.integers(1, 2**60)
_resolved = st.builds(
    Resolved,
    name=st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True),
    repository=st.none() | st.just("/srv/x"),
    environment=st.builds(
        Environment,
        python=st.none() | st.from_regex(r"3\.[0-9]{1,2}", fullmatch=True),
        packages=st.lists(st.sampled_from(["polars>=1", "a[b]", "x @ https://h/x.whl"]), max_size=2).map(tuple),
        project=st.none() | st.just("sub"),
    ),
    compute=st.builds(Compute, cpu=st.none() | st.floats(0.001, 10_000), memory=st.none() | _sizes),
    apps=st.lists(
        st.builds(
            App,
            name=st.from_regex(r"[a-z]{1,5}", fullmatch=True),
            kind=st.just("command"),
            command=st.just(("serve", "{socket}")),
            timeout=st.floats(0, 3 * 10**8) | st.integers(0, 10**6),
        ),
        max_size=2,
    ).map(tuple),
    data=st.lists(st.builds(DataSource, name=st.just("d"), folder=st.none() | st.just("/x")), max_size=1).map(tuple),
    env=st.dictionaries(st.from_regex(r"[A-Z_]{1,5}", fullmatch=True), st.text(max_size=10), max_size=3),
)


@given(_resolved)
def test_what_is_stored_is_read_back_the_same(desired: Resolved) -> None:
    stored = json.dumps(desired.model_dump(mode="json"))
    assert Resolved.model_validate(json.loads(stored)) == desired


def _as_other_languages_write(value: Any) -> Any:
    """2.0 becomes 2, as JavaScript does."""
    if isinstance(value, dict):
        return {key: _as_other_languages_write(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_other_languages_write(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@given(_resolved)
def test_whole_numbers_may_lose_their_point_on_the_way(desired: Resolved) -> None:
    assert Resolved.model_validate(_as_other_languages_write(desired.model_dump(mode="json"))) == desired


def test_what_is_resolved_is_a_workspace_too() -> None:
    desired = resolved("compute: cpu-small\nenv: {A: 1}\napps: [vscode]\nidle: {after: 1h}", name="a")
    again = resolve(
        Workspace.model_validate(desired.model_dump(mode="json", exclude={"template"})),
        Blocks(),
        name=None,
        repository=None,
    )
    assert again == desired
