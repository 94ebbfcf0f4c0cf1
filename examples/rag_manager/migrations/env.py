"""Alembic in a database that others migrate, too: with a version table of our own, and blind to what is theirs."""

from alembic import context
from sqlalchemy import create_engine, pool

OURS = {"user_knowledge", "user_knowledge_rejected"}


def is_ours(item, name, kind, _reflected, _compare_to) -> bool:
    """What autogenerate looks at: without this it would propose to drop the tables of the forum."""
    return name in OURS if kind == "table" else item.table.name in OURS


# libpq's environment variables name server, database and role.
engine = create_engine("postgresql+psycopg://", poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(
        connection=connection,
        version_table="alembic_version_rag_manager",
        include_object=is_ours,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
