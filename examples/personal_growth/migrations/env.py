"""Where Alembic works, and the models that the tables are compared with."""

import sys
from pathlib import Path

from alembic import context
from sqlalchemy import create_engine, pool

sys.path.insert(0, str(Path(__file__).parents[1]))
from search_service import Base  # noqa: E402


def is_ours(item, name, kind, _reflected, _compare_to) -> bool:
    return kind != "table" or name != "migration_report"  # which the application does not know


# libpq's environment variables name server, database and role.
engine = create_engine("postgresql+psycopg://", poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_object=is_ours,
        compare_server_default=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
