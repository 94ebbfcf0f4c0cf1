"""The table user_knowledge, by the same SQL as without Alembic."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None

SQL = Path(__file__).parents[2] / "sql"


def run(script: str) -> None:
    # By the driver itself, in Alembic's transaction: SQLAlchemy would take ":" and "%" in it for parameters.
    op.get_bind().connection.driver_connection.execute((SQL / script).read_text(encoding="utf-8"))


def upgrade() -> None:
    run("upgrade.sql")


def downgrade() -> None:
    run("downgrade.sql")
