"""Alembic's entry: runs the migrations over a synchronous connection made from the store's URL."""

from alembic import context
from sqlalchemy import create_engine

from studiolo.store.tables import Table

url = str(context.config.attributes["url"]).replace("+aiosqlite", "")
engine = create_engine(url)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=Table.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
