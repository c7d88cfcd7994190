"""Locks are kept, and generations are numbered with what became of them"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "locks",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("made", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_locks")),
    )
    op.create_table(
        "locked_requests",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("lock", sa.String(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["lock"], ["locks.id"], name=op.f("fk_locked_requests_lock_locks"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_locked_requests")),
    )
    op.create_table(
        "numbered_generations",
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("of", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("generation", sa.String(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("request", sa.String(), nullable=False),
        sa.Column("inputs", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "of", "number", name=op.f("pk_numbered_generations")),
        sa.UniqueConstraint("scope", "of", "generation", name=op.f("uq_numbered_generations_scope")),
    )
    # One number for one generation: where one was left and came back, its first number stays.
    op.execute(
        "INSERT INTO numbered_generations "
        "SELECT 'workspace', workspace_id, MIN(number), generation, MIN(at), 'good', '', '', '', '', '{}' "
        "FROM workspace_generations GROUP BY workspace_id, generation"
    )
    op.drop_table("workspace_generations")
    with op.batch_alter_table("workspaces") as batch:
        batch.add_column(sa.Column("relock", sa.JSON(none_as_null=True), nullable=True))
        batch.add_column(sa.Column("pinned", sa.Integer(), nullable=True))
        batch.add_column(sa.Column("rescue", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch.add_column(sa.Column("prepared", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch.add_column(sa.Column("remarks", sa.JSON(), nullable=False, server_default="[]"))
        batch.add_column(sa.Column("trouble", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("workspaces") as batch:
        for name in ("relock", "pinned", "rescue", "prepared", "remarks", "trouble"):
            batch.drop_column(name)
    op.create_table(
        "workspace_generations",
        sa.Column("workspace_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("generation", sa.String(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["workspace_id"],
            ["workspaces.id"],
            name=op.f("fk_workspace_generations_workspace_id_workspaces"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("workspace_id", "number", name=op.f("pk_workspace_generations")),
    )
    op.execute(
        "INSERT INTO workspace_generations SELECT of, number, generation, at FROM numbered_generations "
        "WHERE scope = 'workspace'"
    )
    op.drop_table("numbered_generations")
    op.drop_table("locked_requests")
    op.drop_table("locks")
