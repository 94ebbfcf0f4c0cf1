-- Moves everything from a Chroma directory: psql -v path=/srv/chroma_db -f migrate.sql. One transaction; may be run again;
-- the directory is only read. The server reads it, so its user must be able to; whoever runs this must be a member of
-- pg_read_server_files.
\set ON_ERROR_STOP on
BEGIN;
DROP SERVER IF EXISTS chroma CASCADE;
CREATE SERVER chroma FOREIGN DATA WRAPPER vector_embed_chroma OPTIONS (path :'path');
CREATE SCHEMA IF NOT EXISTS chroma;
IMPORT FOREIGN SCHEMA default_database FROM SERVER chroma INTO chroma;

INSERT INTO video_files (video_name, video_path, language, video_duration, total_segments, width, height, fps,
                         phase1_status, phase1_start_time, phase1_segments_created,
                         phase2_status, phase2_start_time, phase2_segments_analyzed, db_load_status, db_load_start_time)
    SELECT id, f.video_path, f.language, f.video_duration, f.total_segments, f.width, f.height, f.fps,
           coalesce(f.phase1_status, 'pending'), f.phase1_start_time, f.phase1_segments_created,
           coalesce(f.phase2_status, 'pending'), f.phase2_start_time, f.phase2_segments_analyzed, 'in_progress', now()
    FROM chroma.video_files, jsonb_to_record(metadata) AS f (
        video_path text, language text, video_duration float8, total_segments integer, width integer, height integer, fps float8,
        phase1_status text, phase1_start_time timestamptz, phase1_segments_created integer,
        phase2_status text, phase2_start_time timestamptz, phase2_segments_analyzed integer)
    ON CONFLICT (video_name) DO NOTHING;

-- Vectors are copied where they are whole. Where they are gone the trigger makes them from the description.
INSERT INTO video_segments (id, video_name, video_path, segment_index, start_time, end_time, duration, description, keywords,
                            confidence, content_type, embedding)
    SELECT id, s.video_name, s.video_path, s.segment_index, s.start_time, s.end_time, s.duration, document, s.keywords,
           s.confidence, s.content_type, embedding
    FROM chroma.video_segments, jsonb_to_record(metadata) AS s (
        video_name text, video_path text, segment_index integer, start_time float8, end_time float8, duration float8,
        keywords text, confidence text, content_type text)
    ON CONFLICT (id) DO NOTHING;

UPDATE video_files f SET (db_load_status, db_segments_loaded) = ('completed', s.loaded)
    FROM (SELECT video_name, count(*) AS loaded FROM video_segments GROUP BY video_name) s
    WHERE s.video_name = f.video_name AND db_load_status = 'in_progress';
COMMIT;

-- After the rows: built at once it is better and faster than row by row.
CREATE INDEX IF NOT EXISTS video_segments_embedding_idx ON video_segments USING hnsw (embedding vector_cosine_ops);
ANALYZE video_files, video_segments;
