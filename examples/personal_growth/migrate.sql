-- Moves what is in the old stores and not yet here:
--   psql -1 -v ON_ERROR_STOP=1 -c "SET growth.old = '/srv/growth'" -f migrate.sql
-- in that one transaction (or Alembic's). May be run again; what is here already stays as it is. The server reads SQLite file
-- and Chroma directory, and only reads them; whoever runs this must be a member of pg_read_server_files.
SET LOCAL client_min_messages = warning;
LOCK TABLE migration_report; -- one at a time

-- 1. The old stores, as foreign tables.
DROP SERVER IF EXISTS growth_sqlite CASCADE;
DROP SERVER IF EXISTS growth_chroma CASCADE;
DROP SCHEMA IF EXISTS legacy, legacy_chroma CASCADE;
CREATE SCHEMA legacy;
CREATE SCHEMA legacy_chroma;
DO $$
DECLARE
    old text := current_setting('growth.old');
BEGIN
    -- SQLAlchemy wrote UTC and did not say so.
    EXECUTE format($sql$CREATE SERVER growth_sqlite FOREIGN DATA WRAPPER vector_embed_sqlite
        OPTIONS (path %L, timezone 'UTC')$sql$, old || '/personal_growth_os.db');
    EXECUTE format('CREATE SERVER growth_chroma FOREIGN DATA WRAPPER vector_embed_chroma OPTIONS (path %L)', old || '/chroma_data');
END$$;
IMPORT FOREIGN SCHEMA main FROM SERVER growth_sqlite INTO legacy;
IMPORT FOREIGN SCHEMA default_database FROM SERVER growth_chroma INTO legacy_chroma;
CREATE FOREIGN TABLE legacy.given_ids (name text, seq bigint) SERVER growth_sqlite OPTIONS (table_name 'sqlite_sequence');

-- 2. What of it fits: SQLite checked neither foreign keys nor priorities.
CREATE VIEW legacy.tasks_fit AS
    SELECT t.id, t.title, t.description, t.status, CASE WHEN t.priority BETWEEN 1 AND 5 THEN t.priority END AS priority, t.due_date,
           t.snooze_until, t.start_time, t.end_time, t.estimated_hours, p.id AS project_id, parent.id AS parent_task_id, t.created_at,
           t.updated_at
    FROM legacy.tasks t LEFT JOIN legacy.projects p ON p.id = t.project_id LEFT JOIN legacy.tasks parent ON parent.id = t.parent_task_id;
CREATE VIEW legacy.notes_fit AS
    SELECT n.id, n.title, n.content, n.source_url, p.id AS project_id, n.created_at, n.updated_at
    FROM legacy.notes n LEFT JOIN legacy.projects p ON p.id = n.project_id;
CREATE VIEW legacy.note_tags_fit AS
    SELECT * FROM legacy.note_tags WHERE note_id IN (SELECT id FROM legacy.notes) AND tag_id IN (SELECT id FROM legacy.tags);
CREATE VIEW legacy.task_tags_fit AS
    SELECT * FROM legacy.task_tags WHERE task_id IN (SELECT id FROM legacy.tasks) AND tag_id IN (SELECT id FROM legacy.tags);
CREATE VIEW legacy_chroma.entries AS
    SELECT id, (metadata ->> 'note_id')::integer AS note_id, document, embedding FROM legacy_chroma.notes;

-- 3. Take it over, parents first. Chunks and vectors are made by the trigger, in batches.
INSERT INTO projects SELECT * FROM legacy.projects ON CONFLICT DO NOTHING;
INSERT INTO tags SELECT * FROM legacy.tags ON CONFLICT DO NOTHING;
INSERT INTO tasks SELECT * FROM legacy.tasks_fit ON CONFLICT DO NOTHING;
INSERT INTO notes SELECT * FROM legacy.notes_fit ON CONFLICT DO NOTHING;
INSERT INTO task_tags SELECT * FROM legacy.task_tags_fit ON CONFLICT DO NOTHING;
INSERT INTO note_tags SELECT * FROM legacy.note_tags_fit ON CONFLICT DO NOTHING;

-- 4. Report what did not fit, with what stands in the old stores.
INSERT INTO migration_report (table_name, row_key, column_name, problem, original)
    SELECT 'tasks', id::text, 'project_id', 'project does not exist, NULL now', project_id::text
    FROM legacy.tasks WHERE project_id NOT IN (SELECT id FROM legacy.projects)
    UNION ALL
    SELECT 'tasks', id::text, 'parent_task_id', 'task does not exist, NULL now', parent_task_id::text
    FROM legacy.tasks WHERE parent_task_id NOT IN (SELECT id FROM legacy.tasks)
    UNION ALL
    SELECT 'tasks', id::text, 'priority', 'not from 1 to 5, NULL now', priority::text
    FROM legacy.tasks WHERE priority NOT BETWEEN 1 AND 5
    UNION ALL
    SELECT 'notes', id::text, 'project_id', 'project does not exist, NULL now', project_id::text
    FROM legacy.notes WHERE project_id NOT IN (SELECT id FROM legacy.projects)
    UNION ALL
    SELECT 'note_tags', concat_ws(',', note_id, tag_id), '(row)', 'note or tag does not exist', to_jsonb(l)::text
    FROM (SELECT * FROM legacy.note_tags EXCEPT SELECT * FROM legacy.note_tags_fit) l
    UNION ALL
    SELECT 'task_tags', concat_ws(',', task_id, tag_id), '(row)', 'task or tag does not exist', to_jsonb(l)::text
    FROM (SELECT * FROM legacy.task_tags EXCEPT SELECT * FROM legacy.task_tags_fit) l
    UNION ALL
    -- The text of a note that was deleted is in no other place; that of one that was changed is its older text.
    SELECT 'chroma notes', e.id, '(row)',
           CASE WHEN n.id IS NULL THEN 'note does not exist' ELSE 'not the text that the note has' END, coalesce(e.document, '')
    FROM legacy_chroma.entries e LEFT JOIN legacy.notes n ON n.id = e.note_id
    WHERE n.content IS DISTINCT FROM e.document
    ON CONFLICT DO NOTHING;

-- 5. New rows get ids after the copied ones, and after those that SQLite has given and has no more.
SELECT t.name AS "table", s.next_value
FROM (VALUES ('projects'), ('tasks'), ('notes'), ('tags')) AS t (name)
LEFT JOIN legacy.given_ids AS g USING (name)
CROSS JOIN LATERAL vector_embed.sync_identity(t.name::regclass, g.seq) AS s;

-- 6. The index anew, after the rows: built at once it is better than row by row.
REINDEX INDEX note_embeddings_embedding_idx;
ANALYZE projects, tasks, notes, tags, note_tags, task_tags, note_embeddings;

SELECT table_name AS "table", column_name AS "column", problem, count(*), min(row_key) AS first
FROM migration_report GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
