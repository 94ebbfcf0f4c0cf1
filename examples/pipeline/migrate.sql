-- psql -v old=/path/to/pipeline.db -f migrate.sql: everything that is in the old database and not yet here, in one
-- transaction. The file is only read. Run again, it takes over what has come since; what is here already stays as it is.
\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;

BEGIN;
LOCK TABLE migration_report; -- one at a time

-- 1. The old tables, twice: as they are meant, and every value as it is written.
DROP SERVER IF EXISTS pipeline_old CASCADE;
DROP SCHEMA IF EXISTS legacy, legacy_text CASCADE;
CREATE SCHEMA legacy;
CREATE SCHEMA legacy_text;
CREATE SERVER pipeline_old FOREIGN DATA WRAPPER vector_embed_sqlite
    OPTIONS (path :'old', timezone 'UTC', on_error 'null', invalid_text 'strip');
IMPORT FOREIGN SCHEMA main FROM SERVER pipeline_old INTO legacy;
SELECT format($$CREATE FOREIGN TABLE legacy_text.%I (%s) SERVER pipeline_old OPTIONS (on_error 'error', invalid_text 'hex')$$,
              c.relname, string_agg(format('%I text', a.attname), ', ' ORDER BY a.attnum))
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
JOIN pg_class target ON target.relname = c.relname AND target.relnamespace = 'public'::regnamespace AND target.relkind = 'r'
WHERE c.relnamespace = 'legacy'::regnamespace
GROUP BY c.relname
\gexec

-- 2. What of it fits. SQLite did not mind broken JSON, nor children without parents.
CREATE FUNCTION legacy.json_or_null(value text) RETURNS jsonb LANGUAGE plpgsql STABLE STRICT AS $$
BEGIN
    RETURN value::jsonb;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $$;
CREATE VIEW legacy.episodes_fit AS
    SELECT id, hash, stage, source_path, file_size, duration, title, show_name, legacy.json_or_null(metadata) AS metadata,
           legacy.json_or_null(enrichment) AS enrichment, transcription, is_processed, created_at, updated_at, errors
    FROM legacy.episodes;
CREATE VIEW legacy.processing_log_fit AS
    SELECT * FROM legacy.processing_log WHERE episode_id IN (SELECT id FROM legacy.episodes);
CREATE VIEW legacy.episode_dependencies_fit AS
    SELECT * FROM legacy.episode_dependencies
    WHERE episode_id IN (SELECT id FROM legacy.episodes) AND depends_on IN (SELECT id FROM legacy.episodes);

-- 3. Take it over: parents first. Vectors are made by the trigger.
INSERT INTO schema_version SELECT * FROM legacy.schema_version ON CONFLICT DO NOTHING;
INSERT INTO episodes (id, hash, stage, source_path, file_size, duration, title, show_name, metadata, enrichment,
                      transcription, is_processed, created_at, updated_at, errors)
    SELECT * FROM legacy.episodes_fit AS o WHERE NOT EXISTS (SELECT FROM episodes AS e WHERE e.id = o.id);
INSERT INTO processing_log SELECT * FROM legacy.processing_log_fit ON CONFLICT DO NOTHING;
INSERT INTO processing_metrics SELECT * FROM legacy.processing_metrics ON CONFLICT DO NOTHING;
INSERT INTO backup_log SELECT * FROM legacy.backup_log ON CONFLICT DO NOTHING;
INSERT INTO episode_dependencies SELECT * FROM legacy.episode_dependencies_fit ON CONFLICT DO NOTHING;
INSERT INTO json_metadata_index SELECT * FROM legacy.json_metadata_index ON CONFLICT DO NOTHING;

-- 4. Report what did not fit, with what stands in the old database. A value is reported where there is NULL now, or,
-- if it is text, another text. The same values have been counted once, in the warnings above.
SET LOCAL client_min_messages = error;
SELECT format($insert$
    INSERT INTO migration_report (table_name, row_key, column_name, problem, original)
    SELECT %1$L, concat_ws(',', %2$s), v.column_name,
           CASE WHEN v.now IS NULL THEN 'does not fit, NULL now' ELSE 'bytes that are no text, left out' END, v.original
    FROM legacy_text.%1$I AS o
    JOIN legacy.%3$I AS n ON (%4$s)
    CROSS JOIN LATERAL (VALUES %5$s) AS v (column_name, original, now, is_text)
    WHERE v.original IS NOT NULL AND (v.now IS NULL OR v.is_text AND v.now <> v.original)
    ON CONFLICT DO NOTHING
$insert$,
    c.relname,
    string_agg(format('o.%I', a.attname), ', ' ORDER BY a.attnum) FILTER (WHERE a.attnum = ANY (k.conkey)),
    coalesce(fit.relname, c.relname),
    string_agg(format('o.%1$I = n.%1$I::text', a.attname), ' AND ') FILTER (WHERE a.attnum = ANY (k.conkey)),
    string_agg(format('(%1$L, o.%1$I, n.%1$I::text, %2$L::boolean)', a.attname, a.atttypid = 'text'::regtype), ', '))
FROM pg_class c
JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'p'
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_class o ON o.relname = c.relname AND o.relnamespace = 'legacy_text'::regnamespace
JOIN pg_attribute b ON b.attrelid = o.oid AND b.attname = a.attname
LEFT JOIN pg_class fit ON fit.relname = c.relname || '_fit' AND fit.relnamespace = 'legacy'::regnamespace
WHERE c.relnamespace = 'public'::regnamespace
GROUP BY c.relname, fit.relname
\gexec
INSERT INTO migration_report (table_name, row_key, column_name, problem, original)
    SELECT 'processing_log', o.id, '(row)', 'episode does not exist', to_jsonb(o)
    FROM legacy_text.processing_log AS o WHERE o.id NOT IN (SELECT id::text FROM legacy.processing_log_fit)
    UNION ALL
    SELECT 'episode_dependencies', concat_ws(',', o.episode_id, o.depends_on), '(row)', 'episode does not exist', to_jsonb(o)
    FROM legacy_text.episode_dependencies AS o
    WHERE NOT EXISTS (SELECT FROM legacy.episode_dependencies_fit AS f WHERE (f.episode_id, f.depends_on) = (o.episode_id, o.depends_on))
    ON CONFLICT DO NOTHING;

-- 5. New rows get ids after the copied ones, and after those of rows that SQLite remembers and has no more.
CREATE FOREIGN TABLE legacy.given_ids (name text, seq bigint) SERVER pipeline_old OPTIONS (table_name 'sqlite_sequence');
SELECT t.name AS "table", s.next_value
FROM (VALUES ('processing_log'), ('processing_metrics'), ('backup_log')) AS t (name)
LEFT JOIN legacy.given_ids AS g USING (name)
CROSS JOIN LATERAL vector_embed.sync_identity(t.name::regclass, g.seq) AS s;

SELECT table_name AS "table", column_name AS "column", problem, count(*), min(row_key) AS first
FROM migration_report GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;

COMMIT;

ANALYZE schema_version, episodes, processing_log, processing_metrics, backup_log, episode_dependencies, json_metadata_index;
