-- After migrate.sql, before the application writes: is everything here, and true? The first thing that is not ends this.
\set ON_ERROR_STOP on
\set QUIET on
SET plpgsql.check_asserts = on;

-- Value by value, by the tables' primary keys.
CREATE TEMPORARY TABLE differences AS
    SELECT c.target, d.*
    FROM (VALUES ('legacy.projects'::regclass, 'projects'::regclass), ('legacy.tags', 'tags'), ('legacy.tasks_fit', 'tasks'),
                 ('legacy.notes_fit', 'notes'), ('legacy.note_tags_fit', 'note_tags'), ('legacy.task_tags_fit', 'task_tags'))
         AS c (source, target)
    CROSS JOIN LATERAL vector_embed.diff(c.source, c.target) AS d;
SELECT * FROM differences ORDER BY target::text, key LIMIT 20;

DO $$
DECLARE
    found record;
    reported jsonb := (SELECT jsonb_object_agg(kind, n) FROM (
        SELECT table_name || ' ' || column_name AS kind, count(*) AS n FROM migration_report GROUP BY 1) r);
BEGIN
    ASSERT (SELECT count(*) FROM differences) = 0, 'rows differ, see above';
    ASSERT (SELECT count(*) FROM vector_embed.sqlite_check('growth_sqlite')) = 0, 'old values do not fit their declared types';

    -- Nothing is lost: what is not here is in the report. Counted from the old tables, not from the views of what fits.
    ASSERT (SELECT count(*) FROM projects) = (SELECT count(*) FROM legacy.projects), 'projects are missing';
    ASSERT (SELECT count(*) FROM tasks) = (SELECT count(*) FROM legacy.tasks), 'tasks are missing';
    ASSERT (SELECT count(*) FROM notes) = (SELECT count(*) FROM legacy.notes), 'notes are missing';
    ASSERT (SELECT count(*) FROM tags) = (SELECT count(*) FROM legacy.tags), 'tags are missing';
    ASSERT (SELECT count(*) FROM legacy.note_tags) = (SELECT count(*) FROM note_tags) + coalesce((reported ->> 'note_tags (row)')::int, 0)
        AND (SELECT count(*) FROM legacy.task_tags) = (SELECT count(*) FROM task_tags) + coalesce((reported ->> 'task_tags (row)')::int, 0),
        'links are neither here nor in the report';
    ASSERT (SELECT count(project_id) FROM legacy.tasks) = (SELECT count(project_id) FROM tasks) + coalesce((reported ->> 'tasks project_id')::int, 0)
        AND (SELECT count(parent_task_id) FROM legacy.tasks)
          = (SELECT count(parent_task_id) FROM tasks) + coalesce((reported ->> 'tasks parent_task_id')::int, 0)
        AND (SELECT count(priority) FROM legacy.tasks) = (SELECT count(priority) FROM tasks) + coalesce((reported ->> 'tasks priority')::int, 0)
        AND (SELECT count(project_id) FROM legacy.notes) = (SELECT count(project_id) FROM notes) + coalesce((reported ->> 'notes project_id')::int, 0),
        'orphans are not in the report';
    ASSERT (SELECT count(*) FROM legacy_chroma.entries)
        = (SELECT count(*) FROM legacy_chroma.entries e JOIN notes n ON n.id = e.note_id AND n.content = e.document)
        + coalesce((reported ->> 'chroma notes (row)')::int, 0), 'texts of Chroma are neither here nor in the report';

    -- Every chunk is the one that its note has, no note lacks one, and every vector is that of its chunk.
    ASSERT NOT EXISTS (
        SELECT FROM (SELECT n.id, c.chunk_index, c.content
                     FROM notes n CROSS JOIN LATERAL vector_embed.chunk(n.content, 'all-MiniLM-L6-v2') c) AS c
        FULL JOIN note_embeddings e ON (e.note_id, e.chunk_index) = (c.id, c.chunk_index)
        WHERE c.content IS DISTINCT FROM e.content), 'chunks are not those of their notes';
    ASSERT (SELECT bool_and((embedding <=> embed(content, 'all-MiniLM-L6-v2') < 1e-6) IS TRUE) FROM note_embeddings),
        'vectors are not those of their chunks';
    ASSERT (SELECT problem IS NULL FROM vector_embed.attachments WHERE relation = 'notes'::regclass), 'chunks are not kept';

    -- Chroma's vectors were of this very model; and where a note fits in one chunk, the new vector is the old one.
    SELECT * INTO found FROM vector_embed.verify('legacy_chroma.notes', 'embedding', '{document}', 'all-MiniLM-L6-v2', 500);
    ASSERT found.verdict = 'same', 'vectors of Chroma: ' || found.verdict;
    ASSERT (SELECT count(*) > 0 AND bool_and((e.embedding <=> o.embedding < 1e-6) IS TRUE)
            FROM note_embeddings e JOIN legacy_chroma.entries o ON o.note_id = e.note_id AND o.document = e.content),
        'vectors are not those that Chroma had';

    ASSERT (SELECT count(*) = 8 AND bool_and(convalidated) FROM pg_constraint
            WHERE contype = 'f' AND connamespace = 'public'::regnamespace), 'foreign keys are missing';
END$$;

-- A new row gets an id that nobody has, or had.
BEGIN;
INSERT INTO projects (name) VALUES ('verify');
INSERT INTO tasks (title) VALUES ('verify');
INSERT INTO notes (title) VALUES ('verify');
INSERT INTO tags (name) VALUES ('verify');
DO $$
BEGIN
    ASSERT (SELECT bool_and(newest > seq) FROM legacy.given_ids JOIN (
                SELECT 'projects', max(id) FROM projects UNION ALL SELECT 'tasks', max(id) FROM tasks
                UNION ALL SELECT 'notes', max(id) FROM notes UNION ALL SELECT 'tags', max(id) FROM tags) AS n (name, newest) USING (name)),
        'ids come again';
END$$;
ROLLBACK;
SELECT (SELECT count(*) FROM projects) AS projects, (SELECT count(*) FROM tasks) AS tasks, (SELECT count(*) FROM notes) AS notes,
       (SELECT count(*) FROM tags) AS tags, (SELECT count(*) FROM note_embeddings) AS chunks, (SELECT count(*) FROM migration_report) AS reported;
\echo verified
