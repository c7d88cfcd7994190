"""What each kind of app asks for and how it wants to be started."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from studiolo.apps import port_forwarder
from studiolo.apps.app import Place, Process
from studiolo.apps.kinds import KINDS
from studiolo.spec.document import App


@pytest.fixture
def place(tmp_path: Path) -> Place:
    folder = tmp_path / "repo"
    folder.mkdir()
    return Place(
        workspace="demo",
        home=tmp_path / "home",
        folder=folder,
        settings=tmp_path / "home",
        state=tmp_path / "state",
        socket=tmp_path / "app.sock",
        tools=tmp_path / "tools",
        interpreter=str(tmp_path / "env/bin/python"),
        prefixes=(tmp_path / "env",),
        url="http://jupyterlab--demo--ada.localhost:8800",
        environment="demo (Python 3.12)",
    )


def app(kind: str, **more: Any) -> App:
    return App.model_validate({"name": kind, "kind": kind, **more})


def seed(process: Process, name: str) -> Any:
    (found,) = [each for each in process.seeds if each.path.name == name]
    return json.loads(found.text)


def first_sight(place: Place) -> str:
    config = seed(KINDS["jupyterlab"].process(app("jupyterlab"), place), "jupyter_server_config.json")
    return str(config["LabApp"]["default_url"])


def test_kinds_are_known_by_their_names() -> None:
    assert {name: kind.name for name, kind in KINDS.items()} == {name: name for name in KINDS}
    assert set(KINDS) == {"jupyterlab", "vscode", "command", "port"}


def test_tools_are_pinned_and_extensions_of_jupyterlab_are_part_of_them() -> None:
    plain = KINDS["jupyterlab"].tools(app("jupyterlab"))
    assert plain is not None
    assert plain.kind == "uv"
    assert plain.packages[0].startswith("jupyterlab==")
    one = KINDS["jupyterlab"].tools(app("jupyterlab", extensions=("jupyterlab-git", "ipympl")))
    two = KINDS["jupyterlab"].tools(app("jupyterlab", extensions=("ipympl", "jupyterlab-git")))
    assert one == two != plain
    code = KINDS["vscode"].tools(app("vscode", extensions=("charliermarsh.ruff",)))
    assert code == KINDS["vscode"].tools(app("vscode")), "its extensions are not npm packages"
    assert KINDS["command"].tools(app("command", command=("serve", "{port}"))) is None
    assert KINDS["port"].tools(app("port", port=3000)) is None


@pytest.mark.parametrize(
    ("files", "opened"),
    [
        ([], "/lab"),
        (["data.csv", ".hidden.ipynb"], "/lab"),
        (["README.md", "setup.py"], "/lab/tree/README.md"),
        (["b.ipynb", "a.ipynb", "README.md"], "/lab/tree/a.ipynb"),
        (["50% off? #1.ipynb"], "/lab/tree/50%25%20off%3F%20%231.ipynb"),
        (["messwerte für ännchen.ipynb"], "/lab/tree/messwerte%20f%C3%BCr%20%C3%A4nnchen.ipynb"),
    ],
)
def test_jupyterlab_opens_at_the_notebook_or_the_readme(place: Place, files: list[str], opened: str) -> None:
    for name in files:
        (place.folder / name).touch()
    assert first_sight(place) == opened


def test_what_has_jupyterlabs_kernels_forked_lies_beside_its_start(place: Place) -> None:
    process = KINDS["jupyterlab"].process(app("jupyterlab"), place)
    config = seed(process, "jupyter_server_config.json")
    packages = Path(process.argv[2]).parent / "path"
    texts = {each.path: each.text for each in process.seeds}
    (points,) = [text for path, text in texts.items() if path.name == "entry_points.txt"]
    name, _, target = points.splitlines()[1].partition(" = ")
    module, _, member = target.partition(":")
    assert config["KernelProvisionerFactory"]["default_provisioner_name"] == name
    assert f"class {member}(" in texts[packages / f"{module}.py"]
    assert config[member]["withheld"] == ["JUPYTER_CONFIG_PATH", "JUPYTER_PATH", "JUPYTER_PLATFORM_DIRS"]


def test_jupyterlab_starts_without_its_folder(place: Place) -> None:
    place.folder.rmdir()
    assert first_sight(place) == "/lab"


def test_a_folder_called_like_a_notebook_is_not_opened(place: Place) -> None:
    (place.folder / "archive.ipynb").mkdir()
    assert first_sight(place) == "/lab"


def test_language_servers_are_asked_for_only_where_they_were(place: Place) -> None:
    def served(*extensions: str) -> tuple[bool, bool]:
        process = KINDS["jupyterlab"].process(app("jupyterlab", extensions=extensions), place)
        server = seed(process, "jupyter_server_config.json")["ServerApp"]["jpserver_extensions"]["jupyter_lsp"]
        disabled = seed(process, "page_config.json")["disabledExtensions"]
        return server, "@jupyterlab/lsp-extension" not in disabled

    assert served() == (False, False)
    assert served("jupyterlab-git") == (False, False)
    assert served("jupyterlab-lsp", "python-lsp-server") == (True, True)


def test_halves_of_extensions_in_the_environment_are_left_out(place: Place, tmp_path: Path) -> None:
    extensions = tmp_path / "env/share/jupyter/labextensions"
    packages: dict[str, dict[str, Any]] = {
        "@jupyter-widgets/jupyterlab-manager": {"jupyterlab": {"extension": True}},
        "@jupyterlab/git": {"jupyterlab": {"discovery": {"server": {"base": {"name": "jupyterlab_git"}}}}},
        "odd": {"jupyterlab": None},
    }
    for name, described in packages.items():
        (extensions / name).mkdir(parents=True)
        (extensions / name / "package.json").write_text(json.dumps({"name": name, **described}))
    (extensions / "broken").mkdir()
    (extensions / "broken/package.json").write_text("{")
    process = KINDS["jupyterlab"].process(app("jupyterlab"), place)
    disabled = seed(process, "page_config.json")["disabledExtensions"]
    assert disabled["@jupyterlab/git"] is True
    assert not {"@jupyter-widgets/jupyterlab-manager", "odd", "broken"} & set(disabled)


@pytest.mark.parametrize("kind", ["jupyterlab", "vscode"])
def test_in_rescue_nothing_is_kept_in_the_home(place: Place, tmp_path: Path, kind: str) -> None:
    process = KINDS[kind].process(app(kind), replace(place, settings=tmp_path / "rescue"))
    written = [str(each.path) for each in process.seeds] + list(process.env.values()) + list(process.argv)
    assert not [text for text in written if str(place.home) in text]


@pytest.mark.parametrize("kind", ["jupyterlab", "vscode"])
def test_seeds_lie_in_the_state_or_with_the_settings(place: Place, kind: str) -> None:
    for each in KINDS[kind].process(app(kind), place).seeds:
        assert each.path.is_relative_to(place.state) or each.path.is_relative_to(place.settings)
        assert not each.keep or each.path.is_relative_to(place.settings)


def test_people_keep_their_vscode_settings_and_machines_are_told_theirs(place: Place) -> None:
    seeds = {each.path.parent.name: each for each in KINDS["vscode"].process(app("vscode"), place).seeds}
    assert seeds["User"].keep
    assert not seeds["Machine"].keep
    assert json.loads(seeds["Machine"].text)["python.defaultInterpreterPath"] == place.interpreter


def test_vscode_asks_for_its_own_and_the_documents_extensions(place: Place) -> None:
    wanted = ("charliermarsh.ruff", "ms-python.python")
    argv = KINDS["vscode"].process(app("vscode", extensions=wanted), place).argv
    before = argv[: argv.index("--")]
    assert before[-3:] == ("ms-python.python", "ms-toolsai.jupyter", "charliermarsh.ruff")


def test_vscode_is_nothing_but_its_own_node_from_the_start(place: Place) -> None:
    argv = KINDS["vscode"].process(app("vscode"), place).argv
    assert argv[0] == f"{place.tools}/bin/node"
    assert Path(argv[1]).is_file()
    assert Path(argv[3]).is_relative_to(place.state), "byte code is written beside the app, not into tools or the home"


def test_a_command_on_a_port_is_told_it_in_words_and_in_PORT(place: Place) -> None:  # noqa: N802
    document = app("command", command=("streamlit", "run", "--server.port={port}"), ready="/_stcore/health", timeout=30)
    process = KINDS["command"].process(document, place)
    assert process.argv == ("streamlit", "run", "--server.port={port}"), "the backend chooses the port"
    assert process.env == {"PORT": "{port}"}
    assert (process.ready, process.timeout) == ("/_stcore/health", 30)


def test_a_command_on_a_socket_gets_its_path_and_no_port(place: Place) -> None:
    document = app("command", command=("uvicorn", "--uds", "{socket}", '--extra={"a": 1}'))
    process = KINDS["command"].process(document, place)
    assert process.argv == ("uvicorn", "--uds", str(place.socket), '--extra={"a": 1}')
    assert process.env == {}


def test_a_port_is_ready_whether_or_not_somebody_listens_on_it(place: Place) -> None:
    process = KINDS["port"].process(app("port", port=3000, timeout=30), place)
    assert process.argv[-2:] == (str(place.socket), "3000"), "not a port that the backend chooses"
    assert (process.ready, process.timeout) == (port_forwarder.READY, 30)
