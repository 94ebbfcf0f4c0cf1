-- Takes the moved rows away again: psql -1 -v ON_ERROR_STOP=1 -f rollback.sql. The old stores were only read, so nothing has to
-- be put back there. What was written here since is in no old store; then nothing is taken away. No transaction of its own.
SET LOCAL client_min_messages = warning;
LOCK TABLE projects, tasks, notes, tags, note_tags, task_tags IN ACCESS EXCLUSIVE MODE;
DO $$
DECLARE
    changed text;
BEGIN
    IF to_regclass('legacy.notes_fit') IS NULL THEN
        RETURN; -- nothing was moved
    END IF;
    SELECT string_agg(DISTINCT format('%s %s', c.target, d.key), ', ') INTO changed
    FROM (VALUES ('legacy.projects'::regclass, 'projects'::regclass), ('legacy.tags', 'tags'), ('legacy.tasks_fit', 'tasks'),
                 ('legacy.notes_fit', 'notes'), ('legacy.note_tags_fit', 'note_tags'), ('legacy.task_tags_fit', 'task_tags'))
         AS c (source, target)
    CROSS JOIN LATERAL vector_embed.diff(c.source, c.target) AS d;
    IF changed IS NOT NULL THEN
        RAISE EXCEPTION 'rows were written or changed after the migration'
            USING DETAIL = left(changed, 1000), HINT = 'Copy them elsewhere and undo the changes, then run this again.', ERRCODE = 'object_in_use';
    END IF;
    TRUNCATE projects, tasks, notes, tags, note_tags, task_tags, note_embeddings, migration_report RESTART IDENTITY;
END$$;
DROP SERVER IF EXISTS growth_sqlite CASCADE;
DROP SERVER IF EXISTS growth_chroma CASCADE;
DROP SCHEMA IF EXISTS legacy, legacy_chroma CASCADE;
