"""Named secrets of accounts: log-ins of private package indexes. Encrypted where they are kept; the key lies in a file
of its own, so that a copy of the store gives none of them away.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex

from sqlalchemy import delete, select

from studiolo.control.access import Account
from studiolo.layout import Layout
from studiolo.names import as_name, is_name
from studiolo.problem import NotFound, Problem, StudioloError, WrongInput
from studiolo.resources import Secret
from studiolo.store.database import Store
from studiolo.store.tables import SecretRow

LIMIT = 64 << 10
"""Bytes of one value: keys and certificates are a few thousand."""


class Secrets:
    """`clock` gives Unix time."""

    def __init__(self, store: Store, layout: Layout, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._key = layout.secret_key
        self._clock = clock

    async def put(self, account: Account, name: str, value: str) -> Secret:
        """Keep or replace it. Raises `WrongInput` for a name or a value that cannot be."""
        _check(name, value)
        now = self._clock()
        kept = await asyncio.to_thread(_encrypt, self._key, value)
        async with self._store.write() as session:
            await session.merge(SecretRow(account_id=account.id, name=name, value=kept, created=now))
        return _show(name, now)

    async def get(self, account_id: str, name: str) -> str:
        """The value. Raises `NotFound`; `StudioloError` (secret-key-missing) where nothing can decrypt it any more."""
        async with self._store.read() as session:
            row = await session.get(SecretRow, (account_id, name))
        if row is None:
            raise _unknown(name)
        value = await asyncio.to_thread(_decrypt, self._key, row.value)
        if value is None:
            raise StudioloError(
                Problem(
                    "secret-key-missing",
                    f"the secret {name} cannot be read, because the key that it was encrypted with is gone",
                    f"put {self._key} back, or enter it anew with `studiolo secret set {name}`",
                )
            )
        return value

    async def delete(self, account: Account, name: str) -> None:
        """Forget it. Raises `NotFound`."""
        async with self._store.write() as session:
            row = await session.get(SecretRow, (account.id, name))
            if row is None:
                raise _unknown(name)
            await session.execute(delete(SecretRow).where(SecretRow.account_id == account.id, SecretRow.name == name))

    async def list(self, account: Account) -> list[Secret]:
        """By name; never their values."""
        query = select(SecretRow).where(SecretRow.account_id == account.id).order_by(SecretRow.name)
        async with self._store.read() as session:
            return [_show(row.name, row.created) for row in await session.scalars(query)]


def _check(name: str, value: str) -> None:
    if not is_name(name):
        raise WrongInput(
            Problem("secret-name", f"{name[:80]!r} is no name for a secret", f"write {as_name(name, 'index')}", "name")
        )
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise WrongInput(Problem("secret-value", "the value is no text", "", "value")) from None
    if not value.strip():
        raise WrongInput(Problem("secret-empty", "the value is empty", f"studiolo secret rm {name}", "value"))
    if size > LIMIT:
        raise WrongInput(
            Problem("secret-too-long", f"the value has {size} bytes, and {LIMIT >> 10} KiB is the limit", "", "value")
        )


def _show(name: str, created: float) -> Secret:
    return Secret(name=name, created=datetime.fromtimestamp(created, UTC))


def _unknown(name: str) -> NotFound:
    return NotFound(
        Problem("secret-unknown", f"there is no secret named {name[:80]}", f"studiolo secret set {as_name(name)}")
    )


def _encrypt(key: Path, value: str) -> str:
    from cryptography.fernet import Fernet

    _make_key(key)
    return Fernet(key.read_bytes()).encrypt(value.encode()).decode()


def _decrypt(key: Path, kept: str) -> str | None:
    from cryptography.fernet import Fernet, InvalidToken

    try:
        return Fernet(key.read_bytes()).decrypt(kept).decode()
    except (FileNotFoundError, ValueError, InvalidToken):
        return None


def _make_key(path: Path) -> None:
    """Where there is no usable one; whole or not at all, and never over one that is there."""
    from cryptography.fernet import Fernet

    try:
        Fernet(path.read_bytes())
    except FileNotFoundError:
        pass
    except ValueError:
        path.rename(path.with_name(f"{path.name}.broken-{token_hex(4)}"))
    else:
        return
    draft = path.with_name(f".{path.name}-{token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(Fernet.generate_key())
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(draft)  # unlike a renaming, this fails where somebody was faster
    finally:
        draft.unlink(missing_ok=True)
