"""The tables, by the same SQL as without Alembic."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None


def execute(sql: str) -> None:
    # By the driver itself, in Alembic's transaction: SQLAlchemy would take ":" and "%" in it for parameters.
    op.get_bind().connection.driver_connection.execute(sql)


def upgrade() -> None:
    execute((Path(__file__).parents[2] / "schema.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    # Rows that revision 0002 brought are gone by now. Others are not dropped.
    execute("""
        LOCK TABLE projects, tasks, notes, tags IN ACCESS EXCLUSIVE MODE;
        DO $$
        BEGIN
            IF EXISTS (SELECT FROM projects) OR EXISTS (SELECT FROM tasks) OR EXISTS (SELECT FROM notes) OR EXISTS (SELECT FROM tags) THEN
                RAISE EXCEPTION 'the tables have rows that are in no old store' USING ERRCODE = 'object_in_use';
            END IF;
        END$$;
        DROP TABLE note_embeddings, note_tags, task_tags, notes, tasks, tags, projects, migration_report;
        DROP FUNCTION set_updated_at();
    """)
