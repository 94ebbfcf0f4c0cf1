-- psql -v sqlite=/path/to/kb_users_chats.db -v qdrant=/path/to/store -f migrate.sql
-- Of a Qdrant server: -v qdrant_url=https://… in place of the store, and its key, if it wants one, in the environment
-- variable QDRANT_API_KEY. Takes over everything that is there and not yet here, in one transaction. The old stores are
-- only read. Run again, it takes over what has come since; what is here already stays as it is.
\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;
BEGIN;
LOCK TABLE migration_report; -- one at a time

-- 1. The old stores. SQLite's tables twice: as they are meant, and every value as it is written.
DROP SERVER IF EXISTS kb_sqlite, kb_qdrant CASCADE;
DROP SCHEMA IF EXISTS legacy, legacy_text CASCADE;
CREATE SCHEMA legacy;
CREATE SCHEMA legacy_text;
CREATE SERVER kb_sqlite FOREIGN DATA WRAPPER vector_embed_sqlite
    OPTIONS (path :'sqlite', timezone 'UTC', on_error 'null', invalid_text 'strip');
IMPORT FOREIGN SCHEMA main FROM SERVER kb_sqlite INTO legacy;
CREATE FOREIGN TABLE legacy.given_ids (name text, seq bigint) SERVER kb_sqlite OPTIONS (table_name 'sqlite_sequence');
SELECT format($$CREATE FOREIGN TABLE legacy_text.%I (%s) SERVER kb_sqlite OPTIONS (on_error 'error', invalid_text 'hex')$$,
              c.relname, string_agg(format('%I text', a.attname), ', ' ORDER BY a.attnum))
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = 'legacy'::regnamespace AND c.relname <> 'given_ids'
GROUP BY c.relname
\gexec

\if :{?qdrant_url}
    CREATE SERVER kb_qdrant FOREIGN DATA WRAPPER vector_embed_qdrant OPTIONS (url :'qdrant_url');
    \set key `printf %s "${QDRANT_API_KEY:-}"`
    SELECT :'key' <> '' AS has_key \gset
    \if :has_key
        CREATE USER MAPPING FOR CURRENT_USER SERVER kb_qdrant OPTIONS (api_key :'key');
    \endif
\else
    CREATE SERVER kb_qdrant FOREIGN DATA WRAPPER vector_embed_qdrant OPTIONS (path :'qdrant');
\endif
IMPORT FOREIGN SCHEMA collections LIMIT TO (knowledgebase) FROM SERVER kb_qdrant INTO legacy;

-- 2. What of it fits. SQLite did not mind broken JSON, nor children without parents; Qdrant does not know of either.
CREATE FUNCTION legacy.json_or_null(value text) RETURNS jsonb LANGUAGE plpgsql STABLE STRICT AS $$
BEGIN
    RETURN value::jsonb;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $$;
-- PostgreSQL reads 'yesterday', too, as the day before the migration.
CREATE FUNCTION legacy.time_or_null(value text) RETURNS timestamptz LANGUAGE plpgsql STABLE STRICT SET timezone = 'UTC' AS $$
BEGIN
    RETURN CASE WHEN value ~ '^\d{4}-\d\d-\d\d' THEN value::timestamptz
                WHEN value ~ '^\d{1,10}$' THEN to_timestamp(value::float8) END;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $$;
CREATE VIEW legacy.users_fit AS SELECT * FROM legacy.users;
CREATE VIEW legacy.chat_sessions_fit AS
    SELECT * FROM legacy.chat_sessions WHERE user_id IN (SELECT user_id FROM legacy.users_fit);
CREATE VIEW legacy.chat_messages_fit AS
    SELECT id, session_id, role, content, legacy.json_or_null(sources) AS sources, created_at
    FROM legacy.chat_messages WHERE session_id IN (SELECT session_id FROM legacy.chat_sessions_fit);
CREATE VIEW legacy.usage_logs_fit AS
    SELECT id, user_id, action, tokens, legacy.json_or_null(metadata) AS metadata, created_at
    FROM legacy.usage_logs WHERE user_id IN (SELECT user_id FROM legacy.users_fit);
CREATE VIEW legacy.notion_syncs_fit AS
    SELECT * FROM legacy.notion_syncs WHERE user_id IN (SELECT user_id FROM legacy.users_fit);

-- A point without chunk_id is called by its own id. Of those with the same one the last counts that is whole.
CREATE VIEW legacy.payloads AS
    SELECT *, CASE
            WHEN user_id IS NULL OR user_id NOT IN (SELECT user_id FROM legacy.users_fit) THEN 'user does not exist'
            WHEN text IS NULL THEN 'no text'
            WHEN source_type IS NULL THEN 'no source_type'
        END AS lack
    FROM (SELECT id AS point_id, payload, coalesce(nullif(payload ->> 'chunk_id', ''), id) AS chunk_id,
                 payload ->> 'user_id' AS user_id, payload ->> 'text' AS text,
                 legacy.json_or_null(payload ->> 'metadata') AS metadata, payload ->> 'source_type' AS source_type,
                 payload ->> 'source_id' AS source_id, payload ->> 'source_url' AS source_url,
                 CASE WHEN payload ->> 'chunk_index' ~ '^\d{1,9}$' THEN (payload ->> 'chunk_index')::integer END AS chunk_index,
                 embedding, legacy.time_or_null(payload ->> 'created_at') AS created_at,
                 legacy.time_or_null(payload ->> 'updated_at') AS updated_at
          FROM legacy.knowledgebase) AS p;
CREATE VIEW legacy.points AS
    SELECT *, CASE WHEN lack IS NULL AND row_number() OVER newest > 1 THEN 'an older one of the same chunk_id' ELSE lack END AS problem
    FROM legacy.payloads WINDOW newest AS (PARTITION BY chunk_id, lack ORDER BY updated_at DESC NULLS LAST, point_id);
CREATE VIEW legacy.document_chunks_fit AS
    SELECT chunk_id, user_id, text, metadata, source_type, source_id, source_url, chunk_index, embedding, created_at, updated_at
    FROM legacy.points WHERE problem IS NULL;

-- 3. Are the vectors those of the model that will embed new documents? Others would have to be made anew.
DO $$
DECLARE
    found record;
BEGIN
    SELECT * INTO found FROM vector_embed.verify('legacy.document_chunks_fit', 'embedding', '{text}', 'all-MiniLM-L6-v2', 100);
    IF found.verdict <> 'same' THEN
        RAISE EXCEPTION 'vectors: %', found.verdict USING DETAIL = found.advice;
    END IF;
END $$;

-- 4. Take it over: parents first. Vectors come along, so that nothing is embedded, and no document uploaded again.
INSERT INTO users SELECT * FROM legacy.users_fit ON CONFLICT (id) DO NOTHING;
INSERT INTO chat_sessions SELECT * FROM legacy.chat_sessions_fit ON CONFLICT (id) DO NOTHING;
INSERT INTO chat_messages SELECT * FROM legacy.chat_messages_fit ON CONFLICT (id) DO NOTHING;
INSERT INTO usage_logs SELECT * FROM legacy.usage_logs_fit ON CONFLICT (id) DO NOTHING;
INSERT INTO notion_syncs SELECT * FROM legacy.notion_syncs_fit ON CONFLICT (id) DO NOTHING;
INSERT INTO document_chunks (chunk_id, user_id, text, metadata, source_type, source_id, source_url, chunk_index, embedding,
                             created_at, updated_at)
    SELECT * FROM legacy.document_chunks_fit AS o
    WHERE NOT EXISTS (SELECT FROM document_chunks AS n WHERE n.chunk_id = o.chunk_id)
    ORDER BY user_id, source_id, chunk_index;

-- 5. Report what did not fit, with what stands in the old stores. A value is reported where there is NULL now, or, if it
-- is text, another text. The same values have been counted once, in the warnings above.
SET LOCAL client_min_messages = error;
DELETE FROM migration_report;
SELECT format($insert$
    INSERT INTO migration_report
        SELECT %1$L, o.id, v.column_name,
               CASE WHEN v.now IS NULL THEN 'does not fit, NULL now' ELSE 'bytes that are no text, left out' END, v.original
        FROM legacy_text.%1$I AS o JOIN legacy.%2$I AS n ON o.id = n.id::text
        CROSS JOIN LATERAL (VALUES %3$s) AS v (column_name, original, now, is_text)
        WHERE v.original IS NOT NULL AND (v.now IS NULL OR v.is_text AND v.now <> v.original)
        UNION ALL
        SELECT %1$L, o.id, '(row)', %4$L, to_jsonb(o)::text
        FROM legacy_text.%1$I AS o WHERE o.id NOT IN (SELECT id::text FROM legacy.%2$I)
$insert$,
    c.relname, c.relname || '_fit',
    string_agg(format('(%1$L, o.%1$I, n.%1$I::text, %2$L::boolean)', n.attname, n.atttypid = 'text'::regtype), ', '),
    CASE c.relname WHEN 'chat_messages' THEN 'session does not exist' ELSE 'user does not exist' END)
FROM pg_class c
JOIN pg_attribute n ON n.attrelid = format('legacy.%I', c.relname || '_fit')::regclass AND n.attnum > 0
WHERE c.relnamespace = 'legacy_text'::regnamespace
GROUP BY c.relname
\gexec
INSERT INTO migration_report
    SELECT 'document_chunks', point_id, '(row)', problem, payload::text FROM legacy.points WHERE problem IS NOT NULL
    UNION ALL
    SELECT 'document_chunks', p.point_id, e.key,
           CASE WHEN to_jsonb(f) ? e.key THEN 'does not fit, NULL now' ELSE 'there is no such column' END, e.value
    FROM legacy.points AS p JOIN legacy.document_chunks_fit AS f USING (chunk_id) CROSS JOIN LATERAL jsonb_each_text(p.payload) AS e
    WHERE p.problem IS NULL AND e.value IS NOT NULL AND to_jsonb(f) - 'embedding' ->> e.key IS NULL;

-- 6. New rows get ids after the copied ones, and after those of rows that SQLite remembers and has no more.
SELECT s.*
FROM (VALUES ('users'), ('chat_sessions'), ('chat_messages'), ('usage_logs'), ('notion_syncs'), ('document_chunks')) AS t (name)
LEFT JOIN legacy.given_ids AS g USING (name)
CROSS JOIN LATERAL vector_embed.sync_identity(t.name::regclass, g.seq) AS s \g /dev/null

SELECT table_name AS "table", column_name AS "column", problem, count(*), min(row_key) AS first
FROM migration_report GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
COMMIT;

-- After the rows: built at once it is better and faster than row by row. By cosine, as the search asks.
CREATE INDEX IF NOT EXISTS document_chunks_embedding_idx ON document_chunks USING hnsw (embedding vector_cosine_ops);
ANALYZE users, chat_sessions, chat_messages, usage_logs, notion_syncs, document_chunks;
