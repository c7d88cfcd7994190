from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studiolo.edge.grants import Grants, is_key, new_key
from studiolo.names import LABEL_LENGTH, Label

LAB = Label("jupyterlab", "demo", "ada")
CODE = Label("vscode", "demo", "ada")
SOCKET = Path("/run/app.sock")
RELAY = Path("/run/relay.sock")
KEY = "k" * 43


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "grants").mkdir()
    return tmp_path / "grants"


def links(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): os.readlink(path)  # noqa: PTH115
        for path in folder.rglob("*")
        if path.is_symlink()
    }


def test_a_key_cannot_be_guessed_and_has_the_form_the_edge_checks() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(is_key(key) for key in keys)


def test_a_link_fits_a_unix_sockets_path() -> None:
    assert LABEL_LENGTH + len(f"/{KEY}.ws") <= 107


def test_link_and_unlink_may_be_repeated(folder: Path) -> None:
    grants = Grants(folder, RELAY)
    for _ in range(2):
        grants.link(LAB, KEY, SOCKET)
        assert links(folder) == {f"{LAB}/{KEY}": str(SOCKET), f"{LAB}/{KEY}.ws": str(RELAY)}
    for _ in range(2):
        grants.unlink(LAB, KEY)
        assert list(folder.iterdir()) == []


def test_a_link_may_be_led_elsewhere(folder: Path) -> None:
    grants = Grants(folder, RELAY)
    grants.link(LAB, KEY, SOCKET)
    grants.link(LAB, KEY, Path("/run/other.sock"))
    assert links(folder)[f"{LAB}/{KEY}"] == "/run/other.sock"


def test_unlink_label_takes_all_of_one_and_none_of_another(folder: Path) -> None:
    grants = Grants(folder, RELAY)
    for _ in range(3):
        grants.link(LAB, new_key(), SOCKET)
    grants.link(CODE, KEY, SOCKET)
    grants.unlink_label(LAB)
    grants.unlink_label(LAB)
    assert set(links(folder)) == {f"{CODE}/{KEY}", f"{CODE}/{KEY}.ws"}
    assert [path.name for path in folder.iterdir()] == [str(CODE)]


@pytest.mark.parametrize(
    "label",
    [
        Label("..", "demo", "ada"),
        Label("a/b", "demo", "ada"),
        Label("", "demo", "ada"),
        Label("a--b", "demo", "ada"),
        Label("A", "demo", "ada"),
        Label("a" * 40, "b" * 40, "c"),
        Label("a", "b", "c\n"),
    ],
)
def test_what_is_no_label_is_refused(folder: Path, label: Label) -> None:
    grants = Grants(folder, RELAY)
    with pytest.raises(ValueError, match="not a label"):
        grants.link(label, KEY, SOCKET)
    with pytest.raises(ValueError, match="not a label"):
        grants.unlink(label, KEY)
    with pytest.raises(ValueError, match="not a label"):
        grants.unlink_label(label)
    with pytest.raises(ValueError, match="not a label"):
        grants.rebuild([(label, KEY, SOCKET)])
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("key", ["", "short", "../" + "a" * 40, KEY + "\n", KEY + ".ws", "k" * 44, "é" * 43, "/" * 43])
def test_what_is_no_key_is_refused_and_not_repeated(folder: Path, key: str) -> None:
    grants = Grants(folder, RELAY)
    with pytest.raises(ValueError, match=r"^this is not a key$"):
        grants.link(LAB, key, SOCKET)
    with pytest.raises(ValueError, match=r"^this is not a key$"):
        grants.unlink(LAB, key)
    with pytest.raises(ValueError, match=r"^this is not a key$"):
        grants.rebuild([(LAB, key, SOCKET)])
    assert list(folder.iterdir()) == []


def test_a_relative_socket_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="absolute"):
        Grants(folder, RELAY).link(LAB, KEY, Path("app.sock"))


def test_rebuild_clears_what_a_crash_or_a_stranger_left(folder: Path) -> None:
    grants = Grants(folder, RELAY)
    grants.link(LAB, KEY, SOCKET)
    (folder / str(LAB) / f".{KEY}.0123").symlink_to(SOCKET)
    (folder / str(LAB) / "sub").mkdir()
    (folder / ".vscode--demo--ada.0123").mkdir()
    (folder / ".vscode--demo--ada.0123" / KEY).symlink_to(SOCKET)
    (folder / str(CODE)).symlink_to(folder / str(LAB))
    (folder / "file").write_text("")
    inode = (folder / str(LAB) / KEY).lstat().st_ino

    grants.rebuild([(LAB, KEY, SOCKET), (CODE, KEY, SOCKET)])

    expected = {f"{label}/{name}" for label in (LAB, CODE) for name in (KEY, f"{KEY}.ws")}
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()} == expected
    assert (folder / str(LAB) / KEY).lstat().st_ino == inode


triples = st.tuples(st.sampled_from([LAB, CODE]), st.sampled_from([c * 43 for c in "abc"]), st.just(SOCKET))


@settings(max_examples=50)
@given(st.lists(triples), st.lists(triples))
def test_rebuild_makes_the_folder_say_exactly_what_is_listed(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[tuple[Label, str, Path]],
    after: list[tuple[Label, str, Path]],
) -> None:
    folder = tmp_path_factory.mktemp("grants")
    grants = Grants(folder, RELAY)
    for label, key, socket in before:
        grants.link(label, key, socket)
    grants.rebuild(after)
    assert set(links(folder)) == {f"{label}/{key}{end}" for label, key, _ in after for end in ("", ".ws")}
    shutil.rmtree(folder)
