-- The RAG manager's table, and nothing else. May be run again at any time: it makes what is missing, and fails where
-- something of that name is there and is another thing, which CREATE TABLE IF NOT EXISTS alone would take for its own.
-- No transaction of its own: psql -1 or Alembic bring one.

SET LOCAL lock_timeout = '5s';
SET LOCAL search_path = public;

CREATE TABLE IF NOT EXISTS user_knowledge (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id varchar(64) NOT NULL UNIQUE,
    name varchar(200) NOT NULL,
    personality text,
    background text,
    expertise jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(expertise) = 'array'),
    communication_style text,
    preferences jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(preferences) = 'object'),
    file_path varchar(1024),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    embedding vector(384));

-- Profiles that could not be loaded, with what was in the file.
CREATE TABLE IF NOT EXISTS user_knowledge_rejected (
    file_path varchar(1024) PRIMARY KEY,
    problem text NOT NULL,
    content bytea NOT NULL,
    rejected_at timestamptz NOT NULL DEFAULT now());

DO $$
DECLARE
    difference text;
BEGIN
    SELECT string_agg(format('column %s is %s, expected %s', name, coalesce(actual, 'missing'), coalesce(expected, 'none')), '; ')
    INTO difference
    FROM (SELECT attname::text AS name, format_type(atttypid, atttypmod) AS actual
          FROM pg_attribute WHERE attrelid = 'user_knowledge'::regclass AND attnum > 0 AND NOT attisdropped) a
    FULL JOIN (VALUES ('id', 'uuid'), ('user_id', 'character varying(64)'), ('name', 'character varying(200)'),
                      ('personality', 'text'), ('background', 'text'), ('expertise', 'jsonb'), ('communication_style', 'text'),
                      ('preferences', 'jsonb'), ('file_path', 'character varying(1024)'),
                      ('created_at', 'timestamp with time zone'), ('updated_at', 'timestamp with time zone'),
                      ('embedding', 'vector(384)')) e (name, expected) USING (name)
    WHERE actual IS DISTINCT FROM expected;
    IF difference IS NOT NULL THEN
        RAISE EXCEPTION 'table user_knowledge is there and is another one' USING DETAIL = difference, ERRCODE = 'duplicate_table';
    END IF;
END$$;

CREATE OR REPLACE FUNCTION user_knowledge_updated() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS
$$BEGIN new.updated_at = pg_catalog.now(); RETURN new; END$$;
-- Not when only a vector is made.
CREATE OR REPLACE TRIGGER user_knowledge_updated
    BEFORE UPDATE OF user_id, name, personality, background, expertise, communication_style, preferences, file_path
    ON user_knowledge FOR EACH ROW EXECUTE FUNCTION user_knowledge_updated();

SELECT vector_embed.attach('user_knowledge', 'embedding', '{name,personality,background,expertise,communication_style}',
                           'all-MiniLM-L6-v2', timing => 'statement');
CREATE INDEX IF NOT EXISTS user_knowledge_embedding ON user_knowledge USING hnsw (embedding vector_cosine_ops);
