"""Who may come in: accounts, the secrets they hold, and grants to apps.

Every secret is random (32 bytes) and kept as its SHA-256. Sessions and API tokens last; a *ticket* (in the link that
`studiolo up` prints) and an *entry code* (that carries a signed-in browser to an app's own origin) work once.
A *grant* is the right to reach one app: a row here and a link in the edge's folder, which is a view of the rows.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import delete, or_, select

from studiolo.edge.grants import Grants, new_key
from studiolo.layout import Layout
from studiolo.names import Label
from studiolo.problem import Denied, Problem
from studiolo.store.database import Store
from studiolo.store.tables import AccountRow, CredentialRow, GrantRow, WorkspaceRow

CredentialKind = Literal["session", "api-token", "ticket", "entry"]

# Seconds.
LIFETIMES: dict[str, float | None] = {"session": 30 * 86400, "api-token": None, "ticket": 15 * 60, "entry": 30}
GRANT_LIFETIME = 30 * 86400


@dataclass(frozen=True)
class Account:
    id: str
    name: str
    role: str


@dataclass(frozen=True)
class Session:
    """A signed-in browser. `hash` names it in grants, so that signing out takes them away."""

    account: Account
    hash: str


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class Access:
    def __init__(self, store: Store, layout: Layout, clock: Callable[[], float]) -> None:
        self._store = store
        self._layout = layout
        self._clock = clock
        self._links = Grants(layout.grants, layout.relay_socket)

    async def first_account(self, name: str) -> Account:
        """The one person this installation is for; made on first use."""
        async with self._store.write() as session:
            row = await session.scalar(select(AccountRow).order_by(AccountRow.created).limit(1))
            if row is None:
                row = AccountRow(id=secrets.token_hex(6), name=name, role="owner", created=self._clock())
                session.add(row)
        return Account(row.id, row.name, row.role)

    async def keep_local_token(self, account: Account) -> None:
        """The command line's own API token, in a file only this user can read. Kept while it works."""
        path = self._layout.token
        if path.exists() and await self.account_of(path.read_text().strip(), "api-token") is not None:
            return
        token = await self.issue(account.id, "api-token", {"name": "command line"})
        draft = path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600)
        draft.write_text(token)
        draft.replace(path)

    async def issue(self, account_id: str, kind: CredentialKind, data: dict[str, Any] | None = None) -> str:
        """A new secret; only its hash is kept."""
        secret = secrets.token_urlsafe(32)
        now = self._clock()
        lifetime = LIFETIMES[kind]
        async with self._store.write() as session:
            await session.execute(delete(CredentialRow).where(CredentialRow.expires < now))
            session.add(
                CredentialRow(
                    hash=digest(secret),
                    kind=kind,
                    account_id=account_id,
                    created=now,
                    expires=None if lifetime is None else now + lifetime,
                    data=data or {},
                )
            )
        return secret

    async def session_of(self, secret: str, kind: CredentialKind) -> Session | None:
        """Who holds this secret; None where it is unknown, expired or of another kind."""
        query = (
            select(CredentialRow, AccountRow)
            .join(AccountRow, AccountRow.id == CredentialRow.account_id)
            .where(CredentialRow.hash == digest(secret), CredentialRow.kind == kind)
            .where(or_(CredentialRow.expires.is_(None), CredentialRow.expires > self._clock()))
        )
        async with self._store.read() as session:
            found = (await session.execute(query)).first()
        if found is None:
            return None
        credential, account = found
        return Session(Account(account.id, account.name, account.role), credential.hash)

    async def account_of(self, secret: str, kind: CredentialKind) -> Account | None:
        session = await self.session_of(secret, kind)
        return session.account if session else None

    async def redeem(self, secret: str, kind: CredentialKind) -> tuple[Account, dict[str, Any]]:
        """Use a one-time secret. Raises `Denied` where it is unknown, used or expired."""
        async with self._store.write() as session:
            row = await session.scalar(
                delete(CredentialRow)
                .where(CredentialRow.hash == digest(secret), CredentialRow.kind == kind)
                .where(CredentialRow.expires > self._clock())
                .returning(CredentialRow)
            )
            account = await session.get(AccountRow, row.account_id) if row is not None else None
            if row is None or account is None:
                raise Denied(
                    Problem(
                        f"{kind}-spent",
                        "this link has been used already, or is too old",
                        "run `studiolo open` for a new one",
                    )
                )
            return Account(account.id, account.name, account.role), dict(row.data)

    async def sign_out(self, session_hash: str) -> None:
        """End a session and all the grants it opened; open WebSockets are cut by the relay."""
        async with self._store.write() as session:
            await session.execute(delete(CredentialRow).where(CredentialRow.hash == session_hash))
        await self._revoke(GrantRow.session == session_hash)

    async def grant(
        self, account: Account, label: Label, workspace_id: str, session_hash: str | None
    ) -> tuple[str, float]:
        """Let in: a key, a row and a link. The same session gets the same key for the same app. Returns the key and
        when it expires (Unix time)."""
        now = self._clock()
        async with self._store.write() as session:
            same = select(GrantRow).where(
                GrantRow.workspace_id == workspace_id, GrantRow.app == label.app, GrantRow.account_id == account.id
            )
            same = same.where(
                GrantRow.session.is_(None) if session_hash is None else GrantRow.session == session_hash
            ).where(GrantRow.expires > now + GRANT_LIFETIME / 2)
            row = await session.scalar(same.limit(1))
            if row is None:
                row = GrantRow(
                    key=new_key(),
                    workspace_id=workspace_id,
                    app=label.app,
                    account_id=account.id,
                    session=session_hash,
                    created=now,
                    expires=now + GRANT_LIFETIME,
                )
                session.add(row)
        self._links.link(label, row.key, self._socket(workspace_id, label.app))
        assert row.expires is not None
        return row.key, row.expires

    async def holds(self, key: str, label: Label) -> Account | None:
        """Whose grant this key is for this label; None where it is none (also of a workspace that sleeps)."""
        query = (
            select(AccountRow)
            .join(GrantRow, GrantRow.account_id == AccountRow.id)
            .join(WorkspaceRow, WorkspaceRow.id == GrantRow.workspace_id)
            .where(GrantRow.key == key, GrantRow.app == label.app, WorkspaceRow.name == label.workspace)
            .where(GrantRow.expires > self._clock())
        )
        async with self._store.read() as session:
            row = await session.scalar(query)
        return Account(row.id, row.name, row.role) if row is not None else None

    async def relink(self, key: str, label: Label, workspace_id: str) -> None:
        """Put back the link of a grant that `holds`. Idempotent."""
        self._links.link(label, key, self._socket(workspace_id, label.app))

    def mark_ready(self, label: Label, workspace_id: str) -> None:
        """Have the edge send requests straight to the app, until its socket is another: see `edge/nginx.conf`."""
        with contextlib.suppress(OSError):  # it has just gone
            self._socket(workspace_id, label.app).chmod(0o700)

    async def rebuild(self) -> None:
        """Make the edge's folder say what the rows say."""
        now = self._clock()
        async with self._store.write() as session:
            await session.execute(delete(GrantRow).where(GrantRow.expires < now))
            found = (
                await session.execute(
                    select(GrantRow.key, GrantRow.app, WorkspaceRow.id, WorkspaceRow.name, AccountRow.name)
                    .join(WorkspaceRow, WorkspaceRow.id == GrantRow.workspace_id)
                    .join(AccountRow, AccountRow.id == WorkspaceRow.owner_id)
                )
            ).all()
        self._links.rebuild(
            (Label(app, workspace, owner), key, self._socket(workspace_id, app))
            for key, app, workspace_id, workspace, owner in found
        )

    async def forget(self, workspace_id: str) -> None:
        """Take away all grants of a workspace that is going."""
        await self._revoke(GrantRow.workspace_id == workspace_id)

    async def _revoke(self, condition: Any) -> None:
        async with self._store.write() as session:
            found = (
                await session.execute(
                    select(GrantRow.key, GrantRow.app, WorkspaceRow.name, AccountRow.name)
                    .join(WorkspaceRow, WorkspaceRow.id == GrantRow.workspace_id)
                    .join(AccountRow, AccountRow.id == WorkspaceRow.owner_id)
                    .where(condition)
                )
            ).all()
            await session.execute(delete(GrantRow).where(condition))
        for key, app, workspace, owner in found:
            self._links.unlink(Label(app, workspace, owner), key)

    def _socket(self, workspace_id: str, app: str) -> Path:
        return self._layout.app_sockets(workspace_id) / f"{app}.sock"
