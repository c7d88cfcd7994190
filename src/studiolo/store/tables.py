"""The tables. Times are Unix seconds (UTC), secrets are kept as SHA-256 only, except grant keys: the edge's folder of
links is a view of `grants` and is rebuilt from it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, MetaData, String, UniqueConstraint, false
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Table(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON, str: String}  # noqa: RUF012


class AccountRow(Table):
    __tablename__ = "accounts"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str]
    created: Mapped[float]


class CredentialRow(Table):
    """A secret somebody holds: a session cookie, an API token, a one-time sign-in ticket, a one-time entry code."""

    __tablename__ = "credentials"

    hash: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    created: Mapped[float]
    expires: Mapped[float | None]
    data: Mapped[dict[str, Any]]


class WorkspaceRow(Table):
    __tablename__ = "workspaces"
    __table_args__ = (UniqueConstraint("owner_id", "name"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    owner_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    name: Mapped[str]
    project: Mapped[str]
    backend: Mapped[str]
    document: Mapped[dict[str, Any]]
    created: Mapped[float]
    # What is desired.
    desired: Mapped[str]
    run: Mapped[str]
    """The run that is wanted: a restart asks for a new one."""
    purge: Mapped[bool] = mapped_column(default=False)
    relock: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), default=None)
    """The environment is to be looked at anew: {}, or {"upgrade": [packages; none: all]}, or {"adopt": [packages]}."""
    pinned: Mapped[int | None] = mapped_column(default=None)
    """The number of the generation to stay on, whatever the repository says."""
    rescue: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Run in the minimal environment."""
    # What was last observed.
    phase: Mapped[str]
    phase_since: Mapped[float]
    reason: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    started: Mapped[float | None]
    generation: Mapped[str | None]
    environment: Mapped[str] = mapped_column(default="")
    stages: Mapped[list[Any]]
    notes: Mapped[list[Any]]
    remarks: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    """What there is to say of its environment; `notes` repeat them for the present run."""
    trouble: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), default=None)
    """Why the environment that was asked for last is not the one in use."""
    prepared: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Its `setup` commands have been run."""
    spare: Mapped[str | None] = mapped_column(default=None)
    """The pool that it is a spare of: a start kept ready, which is nobody's until a workspace takes it over."""


class LockRow(Table):
    """A lock, kept although its generation may have been removed: it can be built again."""

    __tablename__ = "locks"

    id: Mapped[str] = mapped_column(primary_key=True)
    document: Mapped[dict[str, Any]]
    made: Mapped[float]


class LockedRequestRow(Table):
    """Which lock a request led to, so that asking for the same again takes no time."""

    __tablename__ = "locked_requests"

    digest: Mapped[str] = mapped_column(primary_key=True)
    lock: Mapped[str] = mapped_column(ForeignKey("locks.id", ondelete="CASCADE"))
    at: Mapped[float]


class NumberedGenerationRow(Table):
    """The generations that a workspace (`scope` workspace, `of` its id) or a template (`scope` template, `of` the
    stored environment's name) has had, numbered from 1. One generation has one number."""

    __tablename__ = "numbered_generations"
    __table_args__ = (UniqueConstraint("scope", "of", "generation"),)

    scope: Mapped[str] = mapped_column(primary_key=True)
    of: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    generation: Mapped[str]
    at: Mapped[float]
    state: Mapped[str]
    """good; bad: its kernel does not start; left: rolled back from, so that the same lock does not lead to it again."""
    reason: Mapped[str]
    by: Mapped[str]
    """The account's name."""
    source: Mapped[str]
    request: Mapped[str]
    """Digest of what was asked for: while it stays, nothing is locked anew."""
    inputs: Mapped[dict[str, Any]]
    """SHA-256 of the files it was locked from."""


class SecretRow(Table):
    """A named secret, encrypted with the key that lies beside the store."""

    __tablename__ = "secrets"

    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]
    created: Mapped[float]


class ToolsRow(Table):
    """Which generation holds an app's tools, so that they are locked once."""

    __tablename__ = "tools"

    kind: Mapped[str] = mapped_column(primary_key=True)
    packages: Mapped[str] = mapped_column(primary_key=True)
    generation: Mapped[str]
    at: Mapped[float]


class GrantRow(Table):
    """The right to reach one app of one workspace; a link in the edge's folder."""

    __tablename__ = "grants"

    key: Mapped[str] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id", ondelete="CASCADE"), index=True)
    app: Mapped[str]
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    session: Mapped[str | None]
    """Hash of the session it was opened from; signing out takes it away. None: asked for by a program."""
    created: Mapped[float]
    expires: Mapped[float | None]


class BlockRow(Table):
    __tablename__ = "blocks"

    kind: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    document: Mapped[dict[str, Any]]


class EventRow(Table):
    __tablename__ = "events"
    __table_args__ = (Index("ix_events_workspace_id_id", "workspace_id", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[float]
    workspace_id: Mapped[str | None]
    """Not a foreign key: history outlives the workspace."""
    workspace_name: Mapped[str | None]
    account_id: Mapped[str | None]
    kind: Mapped[str]
    message: Mapped[str]
    seconds: Mapped[float | None]


class UsageRow(Table):
    __tablename__ = "usage"

    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id", ondelete="CASCADE"), primary_key=True)
    at: Mapped[float] = mapped_column(primary_key=True)
    cpu: Mapped[float]
    memory: Mapped[int]
    disk: Mapped[int | None]
