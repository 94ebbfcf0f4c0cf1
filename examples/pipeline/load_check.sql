-- After pgbench: psql -v transactions=N -f load_check.sql. Every transaction is there, once, with its true vector.
\set ON_ERROR_STOP on
\set QUIET on
SET plpgsql.check_asserts = on;
SELECT set_config('pipeline.transactions', :'transactions', false) \g /dev/null
DO $$
DECLARE
    expected  bigint := current_setting('pipeline.transactions');
    found     bigint;
BEGIN
    SELECT count(*) INTO found FROM episodes WHERE id LIKE 'load-%';
    ASSERT found = expected, format('%s episodes after %s transactions', found, expected);
    SELECT value INTO found FROM processing_metrics WHERE name = 'episodes_ingested';
    ASSERT found = expected, format('counted up to %s by %s transactions', found, expected);
    SELECT count(*) INTO found FROM processing_log WHERE episode_id LIKE 'load-%';
    ASSERT found = 2 * expected, format('%s log entries after %s transactions', found, expected);
    SELECT count(*) INTO found FROM episodes
        WHERE id LIKE 'load-%' AND 1 - (embedding <=> embed(transcription)) >= 0.999999;
    ASSERT found = expected, format('%s true vectors after %s transactions', found, expected);
END $$;
\echo :transactions transactions, none lost, every vector true
