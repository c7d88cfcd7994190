"""What `make` needs before anything is installed: the locks, and the program that reads them."""

from __future__ import annotations

import ast
import fcntl
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-build.lock")


@pytest.fixture(scope="module")
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9.-]+)==([^ ;\n]+)", (ROOT / lock).read_text(), re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    entries = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.lstrip().startswith("#")]
    assert entries
    assert [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []
    assert "://" not in text


def test_the_development_lock_agrees_with_the_runtime_lock() -> None:
    runtime, development = pins("requirements.lock"), pins("requirements-dev.lock")
    assert runtime.items() <= development.items()
    assert "mypy" not in runtime


def test_the_locks_have_all_that_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime = {_distribution(requirement) for requirement in project["project"]["dependencies"]}
    development = {_distribution(requirement) for requirement in project["dependency-groups"]["dev"]}
    assert runtime - pins("requirements.lock").keys() == set()
    assert development - pins("requirements-dev.lock").keys() == set()


def test_everything_imported_is_in_the_runtime_lock() -> None:
    """A library that only the tests' environment brings along is missing where people install."""
    brought_by = packages_distributions()
    locked = pins("requirements.lock").keys()
    missing = set()
    # Copies of them are run by an environment's own Python, with what that has.
    foreign = {
        ROOT / "src/studiolo/environments/health_probe.py",
        ROOT / "src/studiolo/kernels/studiolo_kernels.py",
    }
    for path in {*(ROOT / "src").rglob("*.py")} - foreign:
        for package in _imported(path) - sys.stdlib_module_names - {"studiolo"}:
            if not {_distribution(name) for name in brought_by.get(package, [package])} & locked:
                missing.add(f"{path.relative_to(ROOT)}: {package}")
    assert missing == set()


def _distribution(requirement: str) -> str:
    return re.split(r"[\[<>=!~ ;]", requirement)[0].lower().replace("_", "-").replace(".", "-")


def _imported(path: Path) -> set[str]:
    """The top-level packages that a file imports absolutely."""
    return {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
    }


def test_uv_is_pinned_so_that_pip_can_fetch_it() -> None:
    assert "uv" in pins("requirements.lock")


def test_it_needs_only_the_standard_library() -> None:
    assert _imported(ROOT / "bootstrap.py") <= sys.stdlib_module_names


def test_no_sudo_anywhere() -> None:
    for name in ("bootstrap.py", "Makefile", ".ci/run"):
        assert (
            re.search(r"^[^#\n]*\bsudo\s+\w", re.sub(r'"""(.|\n)*?"""', "", (ROOT / name).read_text()), re.MULTILINE)
            is None
        )


@pytest.mark.parametrize(
    ("told", "added"),
    [
        ({"PIP_INDEX_URL": "https://a/simple"}, {"UV_DEFAULT_INDEX": "https://a/simple"}),
        ({"UV_DEFAULT_INDEX": "https://b/simple"}, {"PIP_INDEX_URL": "https://b/simple"}),
        ({"UV_INDEX_URL": "https://c", "PIP_INDEX_URL": "https://d"}, {}),
        ({"SSL_CERT_FILE": "/ca"}, {"PIP_CERT": "/ca", "NODE_EXTRA_CA_CERTS": "/ca"}),
        ({"SSL_CERT_FILE": "/ca", "PIP_CERT": "/own"}, {"NODE_EXTRA_CA_CERTS": "/ca"}),
        ({}, {}),
    ],
)
def test_network_settings_hold_for_all_programs(
    bootstrap: ModuleType, told: dict[str, str], added: dict[str, str]
) -> None:
    environment = dict(told)
    bootstrap.share_network_settings(environment)
    assert environment == {**told, **added}


def test_a_package_or_its_program_counts_as_there(bootstrap: ModuleType) -> None:
    wanted = {"no-such-package-of-debian": None, "neither-this-one": "python3", "nor-this": "no-such-program"}
    assert bootstrap.missing_packages(wanted) == ["no-such-package-of-debian", "nor-this"]


def test_a_second_installer_waits_for_the_first(tmp_path: Path) -> None:
    (tmp_path / "bootstrap.py").write_bytes((ROOT / "bootstrap.py").read_bytes())
    holder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    program = "import bootstrap\nwith bootstrap.only_one_installer(): print('mine', flush=True)"
    with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as second:
        assert second.stdout is not None
        assert "waiting" in second.stdout.readline()
        os.close(holder)
        assert second.stdout.readline() == "mine\n"
    assert second.returncode == 0


def test_a_torn_record_is_not_taken_for_an_installation(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "record.json"
    monkeypatch.setattr(bootstrap, "RECORD", record)
    assert bootstrap.read_record() == {}
    record.write_text('{"dev": true, "dig')
    assert bootstrap.read_record() == {}
