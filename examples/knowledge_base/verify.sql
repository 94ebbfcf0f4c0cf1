-- After migrate.sql, before the application writes: is everything here? The first thing that is not ends this.
\set ON_ERROR_STOP on
\set QUIET on
SET plpgsql.check_asserts = on;
SET client_min_messages = error; -- migrate.sql has told what does not fit

-- Value by value, by the tables' primary keys; chunks, whose ids are new, by what they are called, their vectors included.
CREATE TEMPORARY TABLE differences AS
    SELECT t.name, d.*
    FROM (VALUES ('users'), ('chat_sessions'), ('chat_messages'), ('usage_logs'), ('notion_syncs')) AS t (name)
    CROSS JOIN LATERAL vector_embed.diff(format('legacy.%I', t.name || '_fit')::regclass, t.name::regclass) AS d
    UNION ALL
    SELECT 'document_chunks', d.* FROM vector_embed.diff('legacy.document_chunks_fit', 'document_chunks', '{chunk_id}') AS d;
SELECT name, key, column_name, left(source_value, 60) AS old, left(target_value, 60) AS new FROM differences LIMIT 20;
DO $$
DECLARE
    name text;
    there bigint;
    here bigint;
    reported bigint;
    found record;
BEGIN
    ASSERT (SELECT count(*) FROM differences) = 0, 'rows differ, see above';

    -- Each row of the old stores is here or in the report. So is each value that does not fit.
    FOREACH name IN ARRAY '{users,chat_sessions,chat_messages,usage_logs,notion_syncs,document_chunks}'::text[] LOOP
        EXECUTE format('SELECT (SELECT count(*) FROM legacy.%I), (SELECT count(*) FROM public.%I)',
                       CASE name WHEN 'document_chunks' THEN 'knowledgebase' ELSE name END, name) INTO there, here;
        SELECT count(*) INTO reported FROM migration_report WHERE table_name = name AND column_name = '(row)';
        ASSERT there = here + reported, format('%s: of %s rows %s are here and %s in the report', name, there, here, reported);
    END LOOP;
    ASSERT NOT EXISTS (
        SELECT FROM vector_embed.sqlite_check('kb_sqlite') AS c
        WHERE NOT EXISTS (SELECT FROM migration_report AS r WHERE r.table_name = c.table_name AND r.row_key = c.rowid::text
                          AND r.column_name IN (c.column_name, '(row)'))), 'the report is not complete';
    ASSERT NOT EXISTS (
        SELECT FROM legacy.knowledgebase AS k CROSS JOIN LATERAL jsonb_each_text(k.payload) AS e
        LEFT JOIN document_chunks AS c ON c.chunk_id IN (k.payload ->> 'chunk_id', k.id)
        WHERE e.value IS NOT NULL AND to_jsonb(c) - 'embedding' ->> e.key IS NULL
            AND NOT EXISTS (SELECT FROM migration_report AS r WHERE r.table_name = 'document_chunks' AND r.row_key = k.id
                            AND r.column_name IN (e.key, '(row)'))), 'the report is not complete';

    -- Vectors are the model's own, and new ones will be.
    SELECT * INTO found FROM vector_embed.verify('document_chunks', 'embedding', '{text}', 'all-MiniLM-L6-v2', 200);
    ASSERT found.verdict = 'same', format('vectors: %s; %s', found.verdict, found.advice);
    ASSERT (SELECT missing = 0 AND embedded = total FROM vector_embed.attachment_status('document_chunks')), 'vectors are missing';
    ASSERT (SELECT count(*) = 1 AND bool_and(problem IS NULL) FROM vector_embed.attachments
            WHERE relation = 'document_chunks'::regclass), 'the trigger is not there, or has a problem';

    ASSERT (SELECT count(*) = 5 AND bool_and(convalidated) FROM pg_constraint WHERE contype = 'f'
            AND connamespace = 'public'::regnamespace), 'foreign keys are missing';
END $$;

-- A new row gets an id that nobody has, or had; a new document a vector. Nothing of this stays.
BEGIN;
INSERT INTO users (user_id, email, hashed_password) VALUES ('verify', 'verify', '');
INSERT INTO chat_sessions (session_id, user_id) VALUES ('verify', 'verify');
INSERT INTO chat_messages (session_id, role, content) VALUES ('verify', 'user', 'verify');
INSERT INTO usage_logs (user_id, action) VALUES ('verify', 'verify');
INSERT INTO notion_syncs (user_id) VALUES ('verify');
INSERT INTO document_chunks (user_id, text, source_type) VALUES ('verify', 'We count the herrings.', 'file');
DO $$
BEGIN
    ASSERT (SELECT max(id) FROM chat_messages) > (SELECT seq FROM legacy.given_ids WHERE name = 'chat_messages'), 'ids come again';
    ASSERT (SELECT embedding <=> embed(text, 'all-MiniLM-L6-v2') < 0.000001 FROM document_chunks WHERE user_id = 'verify'),
        'a new document has another vector';
END $$;
ROLLBACK;
SELECT (SELECT count(*) FROM users) AS users, (SELECT count(*) FROM chat_messages) AS messages,
       (SELECT count(*) FROM document_chunks) AS chunks, (SELECT count(*) FROM migration_report) AS reported;
\echo verified
