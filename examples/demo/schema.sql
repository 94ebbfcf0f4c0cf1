-- The tables of an application that tags videos, and the extension that gives it embed().

SET client_min_messages = warning; -- no notice that CASCADE installs pgvector
CREATE EXTENSION vector_embed CASCADE;

CREATE TABLE video_files (
    video_name                varchar(255) PRIMARY KEY,
    video_path                text NOT NULL,
    language                  varchar(10) NOT NULL,
    video_duration            double precision NOT NULL,
    total_segments            integer NOT NULL,
    width                     integer NOT NULL,
    height                    integer NOT NULL,
    fps                       double precision NOT NULL,

    phase1_status             varchar(20) DEFAULT 'pending',
    phase1_start_time         timestamp,
    phase1_segments_created   integer,

    phase2_status             varchar(20) DEFAULT 'pending',
    phase2_start_time         timestamp,
    phase2_segments_analyzed  integer,

    db_load_status            varchar(20) DEFAULT 'pending',
    db_load_start_time        timestamp,
    db_segments_loaded        integer,

    created_at                timestamp DEFAULT now(),
    updated_at                timestamp DEFAULT now()
);

CREATE TABLE video_segments (
    id             varchar(255) PRIMARY KEY,
    video_name     varchar(255) NOT NULL REFERENCES video_files ON DELETE CASCADE,
    video_path     text NOT NULL,
    segment_index  integer NOT NULL,
    start_time     double precision NOT NULL,
    end_time       double precision NOT NULL,
    duration       double precision NOT NULL,

    description    text,
    keywords       text,
    confidence     varchar(20),
    content_type   varchar(50),

    embedding      vector(384),

    created_at     timestamp DEFAULT now()
);

CREATE INDEX video_segments_video_name_idx ON video_segments (video_name);
CREATE INDEX video_segments_confidence_idx ON video_segments (confidence);
CREATE INDEX video_files_phase1_status_idx ON video_files (phase1_status);
CREATE INDEX video_files_phase2_status_idx ON video_files (phase2_status);
CREATE INDEX video_files_db_load_status_idx ON video_files (db_load_status);
