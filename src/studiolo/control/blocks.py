"""Named building blocks: those that come built in, and those people store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from sqlalchemy import delete, select

from studiolo.problem import Conflict, NotFound, Problem
from studiolo.resources import Block, BlockKind
from studiolo.spec.builtin import builtin_blocks
from studiolo.spec.document import Blocks
from studiolo.spec.load import check_block
from studiolo.store.database import Store
from studiolo.store.tables import BlockRow

KINDS: tuple[BlockKind, ...] = get_args(BlockKind)


class Library:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def all(self) -> Blocks:
        """Built in and stored, as `resolve` sees them."""
        tree: dict[str, dict[str, Any]] = builtin_blocks().model_dump(mode="json")
        async with self._store.read() as session:
            for row in await session.scalars(select(BlockRow)):
                tree[row.kind][row.name] = row.document
        return Blocks.model_validate(tree)

    async def list(self, kind: BlockKind) -> list[Block]:
        """By name, those built in first."""
        found = [
            Block(kind=kind, name=name, builtin=True, document=document.model_dump(mode="json", exclude_defaults=True))
            for name, document in sorted(getattr(builtin_blocks(), kind).items())
        ]
        async with self._store.read() as session:
            rows = await session.scalars(select(BlockRow).where(BlockRow.kind == kind).order_by(BlockRow.name))
            found += [Block(kind=kind, name=row.name, builtin=False, document=row.document) for row in rows]
        return found

    async def get(self, kind: BlockKind, name: str) -> Block:
        for block in await self.list(kind):
            if block.name == name:
                return block
        raise NotFound(
            Problem("block-unknown", f"there is no {kind} block named {name}", f"studiolo {kind} ls shows them")
        )

    async def put(self, kind: BlockKind, name: str, document: Mapping[str, Any]) -> Block:
        """Make or replace. Workspaces that were made from it keep what they were made with."""
        _, checked = check_block(kind, {**document, "name": name})
        self._not_builtin(kind, name)
        stored = checked.model_dump(mode="json", exclude_defaults=True)
        async with self._store.write() as session:
            await session.merge(BlockRow(kind=kind, name=name, document=stored))
        return Block(kind=kind, name=name, builtin=False, document=stored)

    async def delete(self, kind: BlockKind, name: str) -> None:
        self._not_builtin(kind, name)
        await self.get(kind, name)
        async with self._store.write() as session:
            await session.execute(delete(BlockRow).where(BlockRow.kind == kind, BlockRow.name == name))

    def _not_builtin(self, kind: BlockKind, name: str) -> None:
        if name in getattr(builtin_blocks(), kind):
            raise Conflict(
                Problem("block-builtin", f"{name} comes built in and stays as it is", "choose another name for yours")
            )


def as_kind(text: str) -> BlockKind:
    """Raises `NotFound` for what is no kind of block."""
    if text not in KINDS:
        raise NotFound(Problem("kind-unknown", f"there is no kind of block named {text}", f"one of {', '.join(KINDS)}"))
    return text
