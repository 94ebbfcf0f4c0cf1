-- One transaction of a worker, for pgbench: an episode comes in, is transcribed and enriched. Under SQLite the second
-- worker got "database is locked". All of them count up one row at the end, and there they wait for each other.
\set show random(1, 4)
\set number random(1, 1000000)
BEGIN;
INSERT INTO episodes (id, hash, source_path, file_size, title, show_name)
    VALUES ('load-' || gen_random_uuid(), gen_random_uuid(), '/media/load/' || :number || '.mp4', 3000000000 + :number,
            'Load ' || :number, 'Load')
    RETURNING quote_literal(id) AS episode \gset
INSERT INTO processing_log (episode_id, stage, status, started_at) VALUES (:episode, 'discovered', 'completed', now());
UPDATE episodes
    SET transcription = 'Recording number ' || :number || '. '
            || (ARRAY['We talk about bread.', 'We talk about stars.', 'We talk about money.', 'We talk about bicycles.'])[:show],
        stage = 'enriched', is_processed = true, updated_at = now()
    WHERE id = :episode;
INSERT INTO processing_log (episode_id, stage, status, started_at) VALUES (:episode, 'enriched', 'completed', now());
UPDATE processing_metrics SET value = value + 1, recorded_at = now() WHERE name = 'episodes_ingested';
COMMIT;
