-- The shared database as the RAG manager finds it: tables of the forum and of the AI manager, which keep embeddings of
-- their own, made by programs of their own. Run by a superuser in an empty database.
\set ON_ERROR_STOP on
BEGIN;
CREATE EXTENSION vector_embed CASCADE;
CREATE ROLE forum;
CREATE ROLE rag_manager LOGIN;
GRANT CREATE ON SCHEMA public TO forum, rag_manager;

SET ROLE forum;
CREATE TABLE messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    author text NOT NULL,
    body text NOT NULL CHECK (body <> ''),
    sent_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE message_embeddings (
    message_id bigint PRIMARY KEY REFERENCES messages ON DELETE CASCADE,
    embedding public.vector(3) NOT NULL);
CREATE TABLE embeddings (
    id bigserial PRIMARY KEY,
    source text NOT NULL,
    content text,
    embedding public.vector(3),
    UNIQUE (source, content));
CREATE INDEX ON message_embeddings USING hnsw (embedding vector_cosine_ops);
CREATE VIEW recent_messages AS SELECT * FROM messages ORDER BY sent_at DESC LIMIT 50;
CREATE FUNCTION message_added() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN PERFORM pg_notify('forum', new.id::text); RETURN NULL; END$$;
CREATE TRIGGER message_added AFTER INSERT ON messages FOR EACH ROW EXECUTE FUNCTION message_added();
INSERT INTO messages (author, body, sent_at)
    SELECT 'author ' || i % 17, 'Message number ' || i, timestamptz '2025-03-01 12:00+00' + i * interval '7 min'
    FROM generate_series(1, 500) i;
INSERT INTO message_embeddings
    SELECT id, ARRAY[sin(id), cos(id), 1]::public.vector FROM messages WHERE id % 3 > 0;
INSERT INTO embeddings (source, content, embedding)
    SELECT 'wiki', 'Page ' || i, ARRAY[i, 1, 0]::public.vector FROM generate_series(1, 100) i;
-- The forum migrates with Alembic, too, and in the table that Alembic takes unless it is told otherwise.
CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
INSERT INTO alembic_version VALUES ('f0r0m0001');
RESET ROLE;
COMMIT;
