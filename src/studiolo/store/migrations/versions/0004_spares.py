"""Starts are kept ready that are no workspaces yet"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("workspaces") as batch:
        batch.add_column(sa.Column("spare", sa.String(), nullable=True))


def downgrade() -> None:
    op.execute("DELETE FROM workspaces WHERE spare IS NOT NULL")
    with op.batch_alter_table("workspaces") as batch:
        batch.drop_column("spare")
