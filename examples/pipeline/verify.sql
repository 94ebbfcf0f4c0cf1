-- After migrate.sql, before the application writes: is everything here? The first thing that is not ends this.
\set ON_ERROR_STOP on
\set QUIET on
SET plpgsql.check_asserts = on;
SET client_min_messages = error; -- migrate.sql has told what does not fit

CREATE TEMPORARY TABLE compared (source regclass, target regclass);
INSERT INTO compared VALUES
    ('legacy.schema_version', 'schema_version'), ('legacy.episodes_fit', 'episodes'),
    ('legacy.processing_log_fit', 'processing_log'), ('legacy.processing_metrics', 'processing_metrics'),
    ('legacy.backup_log', 'backup_log'), ('legacy.episode_dependencies_fit', 'episode_dependencies'),
    ('legacy.json_metadata_index', 'json_metadata_index');

-- Value by value, by the tables' primary keys.
CREATE TEMPORARY TABLE differences AS
    SELECT c.target, d.* FROM compared AS c CROSS JOIN LATERAL vector_embed.diff(c.source, c.target) AS d
    UNION ALL
    SELECT 'show_overview', d.* FROM vector_embed.diff('legacy.show_overview', 'show_overview', '{show_name}') AS d;
TABLE differences LIMIT 20;
DO $$ BEGIN ASSERT (SELECT count(*) FROM differences) = 0, 'rows differ, see above'; END $$;

-- The same by checksums, of the columns that the old tables have. They can be noted and compared later.
CREATE TEMPORARY TABLE checksums AS
    SELECT c.target, s.rows, s.checksum, t.checksum AS target_checksum
    FROM compared AS c
    CROSS JOIN LATERAL (SELECT array_agg(attname::text) AS columns FROM pg_attribute
                        WHERE attrelid = c.source AND attnum > 0) AS a
    CROSS JOIN LATERAL vector_embed.checksum(c.source) AS s
    CROSS JOIN LATERAL vector_embed.checksum(c.target, a.columns) AS t;
SELECT target AS "table", rows, checksum FROM checksums ORDER BY 1;
DO $$
BEGIN
    ASSERT (SELECT bool_and(checksum = target_checksum) FROM checksums), 'checksums differ';

    -- Rows that were left out, and values that are NULL or another text now, are all in the report.
    ASSERT (SELECT count(*) FROM legacy.processing_log)
        = (SELECT count(*) FROM processing_log)
        + (SELECT count(*) FROM migration_report WHERE (table_name, column_name) = ('processing_log', '(row)')),
        'log entries are neither here nor in the report';
    ASSERT (SELECT count(*) FROM legacy.episode_dependencies)
        = (SELECT count(*) FROM episode_dependencies)
        + (SELECT count(*) FROM migration_report WHERE (table_name, column_name) = ('episode_dependencies', '(row)')),
        'dependencies are neither here nor in the report';
    ASSERT (SELECT count(*) FROM vector_embed.sqlite_check('pipeline_old'))
        = (SELECT count(*) FROM migration_report WHERE column_name <> '(row)' AND column_name NOT IN ('metadata', 'enrichment')),
        'the report is not complete';

    -- Every transcription has its vector.
    ASSERT (SELECT (missing, embedded) = (0, (SELECT count(transcription) FROM episodes))
            FROM vector_embed.attachment_status('episodes')), 'vectors are missing';
    ASSERT (SELECT problem IS NULL FROM vector_embed.attachments WHERE relation = 'episodes'::regclass), 'the trigger has a problem';

    -- Every foreign key holds and is checked.
    ASSERT (SELECT count(*) = 4 AND bool_and(convalidated) FROM pg_constraint WHERE contype = 'f'
            AND connamespace = 'public'::regnamespace), 'foreign keys are missing';
END $$;

-- A new row gets an id that nobody has, or had.
BEGIN;
INSERT INTO processing_log (episode_id, stage, status) SELECT min(id), 'verify', 'completed' FROM episodes;
INSERT INTO processing_metrics (name) VALUES ('verify');
INSERT INTO backup_log (path) VALUES ('verify');
DO $$
BEGIN
    ASSERT (SELECT max(id) FROM processing_log) > (SELECT seq FROM legacy.given_ids WHERE name = 'processing_log'), 'ids come again';
    ASSERT (SELECT max(id) FROM backup_log) > (SELECT seq FROM legacy.given_ids WHERE name = 'backup_log'), 'ids come again';
END $$;
ROLLBACK;
\echo verified
