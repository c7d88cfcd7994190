"""Documentation that cannot lie: what there is must be documented, and what is documented must work."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from typer.main import get_command

from studiolo.cli.main import app
from studiolo.client.calls import Calls
from studiolo.layout import Layout
from studiolo.spec.builtin import builtin_blocks
from studiolo.spec.document import App, Compute, DataSource, Environment, Idle, Param, Workspace
from studiolo.spec.load import check_workspace, load_workspace, read_yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("**/*.md"), *ROOT.glob("*.md"), *ROOT.glob("benchmarks/*.md")])
MAIN_JOB = [
    *("up", "down", "status", "run", "ps", "show", "open", "logs", "exec", "stop", "start", "restart", "rm", "token"),
    *("schema", "doctor", "version", "link"),
    *(f"env {verb}" for verb in ("ls", "show", "diff", "rollback", "pin", "update", "cancel", "log", "adopt")),
    *(f"env {verb}" for verb in ("export", "sbom", "verify", "gc", "detect", "init", "import")),
    *(f"{kind} {verb}" for kind in ("environment", "data", "compute") for verb in ("create", "ls", "show", "rm")),
]
SECTIONS: dict[str, type[BaseModel]] = {
    "The workspace": Workspace,
    "`params`": Param,
    "`environment`": Environment,
    "`apps`": App,
    "`data`": DataSource,
    "`compute`": Compute,
    "`idle`": Idle,
}


def commands() -> Iterator[str]:
    """`up`, `compute ls`, ...: every command that is not hidden."""

    def walk(command: object, words: tuple[str, ...]) -> Iterator[str]:
        if words:
            yield " ".join(words)
        for name, child in getattr(command, "commands", {}).items():
            if not child.hidden:
                yield from walk(child, (*words, name))

    yield from walk(get_command(app), ())


def section(page: str, title: str) -> str:
    match = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert match is not None, f"there is no section {title}"
    return match[1]


def code_blocks(language: str) -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for block in re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            yield page.name, block


def test_generated_pages_are_fresh() -> None:
    check = subprocess.run([sys.executable, DOCS / "generate.py", "--check"], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout + check.stderr


def test_every_command_of_the_main_job_exists_and_is_documented() -> None:
    there = set(commands())
    assert set(MAIN_JOB) <= there
    page = (DOCS / "cli.md").read_text()
    assert [command for command in sorted(there) if f"`studiolo {command}`" not in page] == []


@pytest.mark.parametrize("title", SECTIONS)
def test_every_key_is_in_its_table_and_no_other(title: str) -> None:
    rows = re.findall(r"^\| `([a-z]+)` \|", section((DOCS / "studiolo-yaml.md").read_text(), title), re.MULTILINE)
    assert rows == list(SECTIONS[title].model_fields)


def test_built_in_blocks_are_documented() -> None:
    page = (DOCS / "studiolo-yaml.md").read_text()
    blocks = builtin_blocks()
    names = [*blocks.environment, *blocks.data, *blocks.compute]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_documented_defaults_are_the_real_ones() -> None:
    page = (DOCS / "studiolo-yaml.md").read_text()
    assert Workspace().apps == ("jupyterlab", "vscode")
    assert "default `[jupyterlab, vscode]`" in page
    editor = App(name="editor", kind="vscode")
    assert (editor.timeout, editor.ready) == (120.0, "/")


@pytest.mark.parametrize(("page", "block"), list(code_blocks("yaml")))
def test_yaml_in_the_documentation_loads(page: str, block: str) -> None:
    data = read_yaml(block, page).data
    document = load_workspace(block, page, {}).document
    assert document == check_workspace(data, {})
    assert document != Workspace()


@pytest.mark.parametrize(("page", "block"), list(code_blocks("python")))
def test_python_in_the_documentation_compiles(page: str, block: str) -> None:
    compile(block, page, "exec")
    for client_call in re.findall(r"\bclient\.([a-z_]+)\(", block):
        assert hasattr(Calls, client_call) or client_call in ("exec", "close"), f"{page}: client.{client_call}"


def test_commands_in_the_documentation_exist() -> None:
    """What follows `studiolo` at the beginning of an indented line, or in code in a sentence."""
    there = set(commands())
    wrong = []
    for page in PAGES:
        text = page.read_text()
        said = re.findall(r"^    (?:\.venv/bin/)?studiolo ([a-z]+)(?: ([a-z]+))?", text, re.MULTILINE)
        said += re.findall(r"`studiolo ([a-z]+)(?: ([a-z]+))?", text)
        wrong += [
            f"{page.name}: studiolo {first} {second}"
            for first, second in said
            if first not in there or (f"{first} ls" in there and second and f"{first} {second}" not in there)
        ]
    assert wrong == []


def test_options_in_the_documentation_exist() -> None:
    """Every `--option` on a line with a command of ours is one of that command's."""
    page = (DOCS / "cli.md").read_text()
    there = set(commands())
    wrong = []
    for source in PAGES:
        for first, second, rest in re.findall(
            r"(?:^    |`)(?:\.venv/bin/)?studiolo ([a-z]+)(?: ([a-z]+))?([^`\n]*)", source.read_text(), re.MULTILINE
        ):
            command = f"{first} {second}" if f"{first} {second}" in there else first
            own = re.search(rf"^##+ `studiolo {command}`\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL)
            wrong += [
                f"{source.name}: studiolo {command} {option}"
                for option in re.findall(r"(?<!\S)--[a-z-]+", rest.split("     ")[0].split(" -- ")[0])
                if own is None or option not in own[1]
            ]
    assert wrong == []


def test_links_lead_somewhere() -> None:
    broken = [
        f"{page.name}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


def test_files_of_an_installation_are_documented(tmp_path: Path) -> None:
    page = (DOCS / "operations.md").read_text()
    layout = Layout(tmp_path)
    named = (
        layout.database,
        layout.token,
        layout.secret_key,
        layout.settings,
        layout.generations,
        layout.cache,
        layout.logs,
    )
    assert [path.name for path in named if f"`{path.name}" not in page] == []


def test_make_targets_are_described_by_help() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony is not None
    helped = re.findall(r"^([a-z]+):.*## ", text, re.MULTILINE)
    assert sorted(helped) == sorted(phony[1].split())
