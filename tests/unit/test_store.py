"""The store on a real SQLite file."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from studiolo.problem import StudioloError
from studiolo.store.database import HEAD, Store
from studiolo.store.migrate import configuration
from studiolo.store.tables import AccountRow, Table


def test_the_newest_migration_is_the_one_that_opening_looks_for() -> None:
    assert ScriptDirectory.from_config(configuration("sqlite://")).get_current_head() == HEAD


def test_the_migrations_make_exactly_the_tables(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    command.upgrade(configuration(url), "head")
    engine = create_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []
    engine.dispose()


async def test_opening_makes_the_tables_keeps_rows_and_is_private(tmp_path: Path) -> None:
    database = tmp_path / "studiolo.db"
    store = await Store.open(database)
    async with store.write() as session:
        session.add(AccountRow(id="1", name="ada", role="owner", created=0.0))
    await store.close()
    store = await Store.open(database)
    async with store.read() as session:
        assert (await session.get_one(AccountRow, "1")).name == "ada"
    await store.close()
    assert stat.S_IMODE(database.stat().st_mode) == 0o600


async def test_an_exception_leaves_nothing_behind(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "studiolo.db")
    with pytest.raises(RuntimeError):  # noqa: PT012  the block is the transaction
        async with store.write() as session:
            session.add(AccountRow(id="1", name="ada", role="owner", created=0.0))
            raise RuntimeError
    async with store.read() as session:
        assert await session.scalar(text("select count(*) from accounts")) == 0
    await store.close()


async def test_a_file_that_is_no_store_is_said_to_be_none_and_left_alone(tmp_path: Path) -> None:
    database = tmp_path / "studiolo.db"
    database.write_bytes(b"this is not a database" * 100)
    with pytest.raises(StudioloError, match="cannot be opened"):
        await Store.open(database)
    assert database.read_bytes().startswith(b"this is not a database")
