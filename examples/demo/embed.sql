-- One statement would do it: UPDATE video_segments SET embedding = embed(description);
-- A video at a time shows progress, and each transaction is short.

\timing on
\set QUIET off

SELECT format($$UPDATE video_segments SET embedding = embed(description) WHERE video_name = %L$$, video_name)
FROM video_files
ORDER BY video_name
\gexec

\set QUIET on
\timing off

UPDATE video_files
SET db_load_status = 'completed', db_segments_loaded = loaded, updated_at = now()
FROM (SELECT video_name, count(embedding) AS loaded FROM video_segments GROUP BY video_name) AS segments
WHERE video_files.video_name = segments.video_name;

VACUUM (ANALYZE) video_segments; -- every row has an old version now
