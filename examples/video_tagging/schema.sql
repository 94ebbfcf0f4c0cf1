-- The new tables. Run in the new database by a superuser: it creates the extension.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
BEGIN;
CREATE EXTENSION IF NOT EXISTS vector_embed CASCADE;

CREATE TABLE IF NOT EXISTS video_files (
    video_name varchar(255) PRIMARY KEY,
    video_path text NOT NULL,
    language varchar(10) NOT NULL,
    video_duration double precision NOT NULL,
    total_segments integer NOT NULL,
    width integer NOT NULL,
    height integer NOT NULL,
    fps double precision NOT NULL,

    phase1_status varchar(20) NOT NULL DEFAULT 'pending',
    phase1_start_time timestamptz,
    phase1_segments_created integer,
    phase2_status varchar(20) NOT NULL DEFAULT 'pending',
    phase2_start_time timestamptz,
    phase2_segments_analyzed integer,
    db_load_status varchar(20) NOT NULL DEFAULT 'pending',
    db_load_start_time timestamptz,
    db_segments_loaded integer,

    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now());

CREATE TABLE IF NOT EXISTS video_segments (
    id varchar(255) PRIMARY KEY,
    video_name varchar(255) NOT NULL REFERENCES video_files ON DELETE CASCADE,
    video_path text NOT NULL,
    segment_index integer NOT NULL,
    start_time double precision NOT NULL,
    end_time double precision NOT NULL,
    duration double precision NOT NULL,

    description text,
    keywords text,
    confidence varchar(20),
    content_type varchar(50),
    embedding vector(384),

    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (video_name, segment_index));

CREATE INDEX IF NOT EXISTS video_segments_confidence_idx ON video_segments (confidence);
CREATE INDEX IF NOT EXISTS video_files_phase1_status_idx ON video_files (phase1_status);
CREATE INDEX IF NOT EXISTS video_files_phase2_status_idx ON video_files (phase2_status);
CREATE INDEX IF NOT EXISTS video_files_db_load_status_idx ON video_files (db_load_status);

CREATE OR REPLACE FUNCTION video_files_updated() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS
$$BEGIN new.updated_at = pg_catalog.now(); RETURN new; END$$;
CREATE OR REPLACE TRIGGER video_files_updated BEFORE UPDATE ON video_files
    FOR EACH ROW EXECUTE FUNCTION video_files_updated();

-- From the first row on: a segment without a vector gets one, and one whose description changes gets another.
SELECT FROM vector_embed.attach('video_segments', 'embedding', '{description}', 'all-MiniLM-L6-v2', timing => 'statement');
COMMIT;
