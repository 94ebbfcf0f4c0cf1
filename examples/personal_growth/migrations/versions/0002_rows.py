"""The rows of the old stores: alembic -x old=/srv/growth upgrade head. Without -x old there are none, as in a new installation."""

from pathlib import Path

from alembic import context, op

revision = "0002"
down_revision = "0001"

FOLDER = Path(__file__).parents[2]


def upgrade() -> None:
    old = context.get_x_argument(as_dictionary=True).get("old")
    if old is None:
        print("no -x old=FOLDER: there are no rows to move")
        return
    connection = op.get_bind().connection.driver_connection
    connection.execute("SELECT set_config('growth.old', %s, true)", [old])
    connection.execute((FOLDER / "migrate.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    op.get_bind().connection.driver_connection.execute((FOLDER / "rollback.sql").read_text(encoding="utf-8"))
