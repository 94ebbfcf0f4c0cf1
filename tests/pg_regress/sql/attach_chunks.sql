-- Chunk tables that are kept true to tables of documents.
\set SHOW_CONTEXT never
CREATE SCHEMA chunks;
SET search_path = chunks, public;
CREATE TABLE notes (id integer PRIMARY KEY, owner text, body text);
SELECT vector_embed.attach_chunks('notes', 'body', 'note_chunks', '{note_id}', max_tokens => 16,
                                  fill => '{"owner": "owner"}');
\d note_chunks
SELECT tgname FROM pg_trigger WHERE tgrelid = 'notes'::regclass AND NOT tgisinternal ORDER BY tgname;
SELECT relation, embedding, columns, model, timing, enabled, drifted, problem, chunk_table
FROM vector_embed.attachments;
CREATE VIEW state AS
SELECT id, note_id, chunk_index, content, start_char, owner,
       embedding <=> embed(content) < 1e-6 AS true_vector
FROM note_chunks;
-- Whether the table is what chunk() says, for each document.
CREATE VIEW differences AS
SELECT * FROM (
    SELECT n.id, c.chunk_index, c.content, c.start_char, c.char_count, c.token_count, n.owner
    FROM notes n, vector_embed.chunk(n.body, max_tokens => 16) c) AS wanted
FULL JOIN (
    SELECT note_id AS id, chunk_index, content, start_char, char_count, token_count, owner FROM note_chunks) AS kept
    USING (id, chunk_index, content, start_char, char_count, token_count, owner)
WHERE wanted IS NULL OR kept IS NULL;

-- Insert: several documents, and some without text.
INSERT INTO notes VALUES
    (1, 'ann', 'The cat sleeps on the warm stove. The dog waits at the door. The hens are in the garden behind the house.'),
    (2, 'bob', 'One sentence.'), (3, 'bob', NULL), (4, 'bob', E' \n');
SELECT * FROM state ORDER BY note_id, chunk_index;
-- Update: chunks that stay keep their vectors and ids.
UPDATE notes SET body = 'Here is a new first sentence. ' || body WHERE id = 1;
SELECT id, chunk_index, content, start_char FROM state WHERE note_id = 1 ORDER BY chunk_index;
UPDATE notes SET body = replace(body, 'dog', 'hound') WHERE id = 1;
SELECT id, chunk_index, content, start_char FROM state WHERE note_id = 1 ORDER BY chunk_index;
-- A text that repeats itself.
UPDATE notes SET body = 'The same words come again here. The same words come again here. The same words come again here.'
WHERE id = 2;
UPDATE notes SET body = 'The same words come again here. The same words come again here.' WHERE id = 2;
SELECT chunk_index, content, start_char FROM state WHERE note_id = 2 ORDER BY chunk_index;
-- The key, and what is copied.
UPDATE notes SET id = id + 10, owner = 'carl' WHERE id < 3;
SELECT id, note_id, chunk_index, owner FROM state ORDER BY note_id, chunk_index;
-- To NULL, to blank, from NULL.
UPDATE notes SET body = NULL WHERE id = 11;
UPDATE notes SET body = '' WHERE id = 12;
UPDATE notes SET body = 'Now there is one.' WHERE id = 3;
SELECT note_id, chunk_index, content FROM state ORDER BY note_id, chunk_index;
SELECT * FROM differences;
-- Upsert, COPY, delete, truncate.
INSERT INTO notes VALUES (3, 'dora', 'It was there.'), (5, 'dora', 'It was not.')
ON CONFLICT (id) DO UPDATE SET body = excluded.body, owner = excluded.owner;
COPY notes FROM stdin;
20	eve	Copied in. With two sentences that are too long to be in one chunk.
21	eve	\N
\.
SELECT note_id, chunk_index, content, owner, true_vector FROM state ORDER BY note_id, chunk_index;
SELECT * FROM differences;
DELETE FROM notes WHERE id IN (3, 20);
SELECT note_id, chunk_index FROM state ORDER BY note_id, chunk_index;
TRUNCATE notes CASCADE;
SELECT count(*) FROM note_chunks;
-- Nothing is computed where nothing has changed; a document without chunks gets them when it is touched.
INSERT INTO notes VALUES (1, 'ann', 'A document that was here before.');
DELETE FROM note_chunks;
UPDATE notes SET owner = owner;
SELECT note_id, content FROM state;
CREATE TEMPORARY TABLE before AS SELECT id, xmin AS was FROM note_chunks;
UPDATE notes SET body = body;
SELECT note_chunks.xmin = was AS untouched FROM note_chunks JOIN before USING (id);
-- Triggers of the documents' own, which change the text afterwards.
CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.body <> upper(NEW.body) THEN UPDATE chunks.notes SET body = upper(body) WHERE id = NEW.id; END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER shout AFTER INSERT OR UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION shout();
INSERT INTO notes VALUES (7, 'fay', 'not loud. but there are many words in this document, too many for one chunk.');
SELECT chunk_index, content, true_vector FROM state WHERE note_id = 7 ORDER BY chunk_index;
SELECT * FROM differences;
DROP TRIGGER shout ON notes;
-- A trigger of the chunk table's that keeps chunks out.
CREATE FUNCTION keep_out() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER keep_out BEFORE INSERT ON note_chunks FOR EACH ROW EXECUTE FUNCTION keep_out();
INSERT INTO notes VALUES (8, 'gil', 'Kept out.');
\echo :SQLSTATE
DROP TRIGGER keep_out ON note_chunks;
-- Attached already, attached otherwise, detached.
SELECT vector_embed.attach_chunks('notes', 'body', 'note_chunks', '{note_id}', max_tokens => 16,
                                  fill => '{"owner": "owner"}');
SELECT vector_embed.attach_chunks('notes', 'body', 'note_chunks', '{note_id}', max_tokens => 32);
\echo :SQLSTATE
COMMENT ON TRIGGER zz_vector_embed_note_chunks_insert ON notes IS
    'vector_embed {"timing":"statement","hash":"0000000000000000000000000000000000000000000000000000000000000000"}';
\set VERBOSITY sqlstate
INSERT INTO notes VALUES (9, 'hal', 'Made by another model.');
\set VERBOSITY default
SELECT count(*) FROM notes WHERE id = 9;
SELECT drifted, problem FROM vector_embed.attachments;
SELECT vector_embed.detach_chunks('notes', 'note_chunks');
SELECT vector_embed.detach_chunks('notes', 'note_chunks');
INSERT INTO notes VALUES (10, 'ida', 'Nobody cuts this.');
SELECT count(*) FROM note_chunks WHERE note_id = 10;

-- A table that was there, with names and columns of its own, and a serial.
CREATE TABLE note_embeddings (
    id SERIAL PRIMARY KEY, note_id INTEGER REFERENCES notes (id) ON DELETE CASCADE UNIQUE,
    chunk_index INTEGER DEFAULT 0, content TEXT, embedding vector(384),
    created_at timestamptz DEFAULT CURRENT_TIMESTAMP);
SELECT vector_embed.attach_chunks('notes', 'body', 'note_embeddings', '{note_id}');
\echo :SQLSTATE
ALTER TABLE note_embeddings DROP CONSTRAINT note_embeddings_note_id_key, ADD UNIQUE (note_id, chunk_index);
SELECT vector_embed.attach_chunks('notes', 'body', 'note_embeddings', '{note_id}', max_tokens => 16);
UPDATE notes SET body = body;
INSERT INTO notes VALUES (30, 'jo', 'The cat sleeps on the warm stove. The dog waits at the door. The hens are in the garden.');
UPDATE notes SET body = 'Here is a new first sentence. ' || body WHERE id = 30;
SELECT note_id, chunk_index, content FROM note_embeddings ORDER BY note_id, chunk_index;
SELECT chunk_index, id - min(id) OVER () AS id FROM note_embeddings WHERE note_id = 30 ORDER BY 1;

CREATE TABLE papers (id uuid PRIMARY KEY, user_id text, kind varchar NOT NULL, body text);
CREATE TABLE document_chunks (
    id SERIAL PRIMARY KEY, chunk_id VARCHAR UNIQUE, user_id VARCHAR, text TEXT NOT NULL, metadata TEXT,
    source_type VARCHAR NOT NULL, source_id VARCHAR, embedding TEXT NOT NULL, chunk_index INTEGER DEFAULT 0,
    embedding_vector vector(384));
SELECT vector_embed.attach_chunks('papers', 'body', 'document_chunks', '{source_id}',
    columns => '{"content": "text", "embedding": "embedding_vector"}',
    fill => '{"user_id": "user_id", "source_type": "kind"}');
\echo :SQLSTATE
ALTER TABLE document_chunks ALTER embedding DROP NOT NULL;
SELECT vector_embed.attach_chunks('papers', 'body', 'document_chunks', '{source_id}', max_tokens => 16,
    columns => '{"content": "text", "embedding": "embedding_vector"}',
    fill => '{"user_id": "user_id", "source_type": "kind"}');
INSERT INTO papers VALUES ('6f1c1b52-7a0c-4c39-9a55-0d4be2c4a001', 'u1', 'pdf',
    'A paper about lakes and how deep they are. It has few words, but more than one chunk.');
SELECT source_id, source_type, user_id, chunk_index, text, embedding_vector <=> embed(text) < 1e-6 AS true_vector
FROM document_chunks ORDER BY chunk_index;
-- The key changes where no foreign key follows it.
UPDATE papers SET id = '6f1c1b52-7a0c-4c39-9a55-0d4be2c4a002';
SELECT source_id, chunk_index, id FROM document_chunks ORDER BY chunk_index;
TRUNCATE papers;
SELECT count(*) FROM document_chunks;

-- Keys of several columns, and names that have to be quoted.
CREATE TABLE "Odd ""docs" (a int, "b c" text, "the = text" text, PRIMARY KEY ("b c", a));
SELECT vector_embed.attach_chunks('"Odd ""docs"', 'the = text', '"odd = chunks"', format => 'markdown');
INSERT INTO "Odd ""docs" VALUES (1, 'x', E'# One\n\nText.'), (1, 'y', 'Other.');
UPDATE "Odd ""docs" SET a = 2, "the = text" = 'Another.' WHERE "b c" = 'y';
SELECT "document_b c", document_a, chunk_index, content FROM "odd = chunks" ORDER BY 1, 2, 3;
SELECT vector_embed.detach_chunks('"Odd ""docs"', '"odd = chunks"');
SELECT vector_embed.attach_chunks('"Odd ""docs"', 'the = text', '"odd = chunks"', format => 'markdown');

-- Keys are found whatever the session writes them like.
CREATE TABLE measured (at timestamptz, level float8, body text, note float8, PRIMARY KEY (at, level));
SELECT vector_embed.attach_chunks('measured', 'body', 'measured_chunks', '{at, level}', fill => '{"note": "note"}');
SET datestyle = 'SQL, DMY';
SET timezone = 'Asia/Kolkata';
SET extra_float_digits = -10;
INSERT INTO measured VALUES ('2026-11-21 08:00:00+00', 0.1::float8 + 0.2, 'Before.', 1);
UPDATE measured SET body = 'After.', note = 1.00000000001;
UPDATE measured SET note = 1.00000000002;
SELECT at, content FROM measured_chunks;
RESET datestyle;
RESET timezone;
RESET extra_float_digits;
SELECT c.level = m.level AS level, c.note FROM measured_chunks c, measured m;

-- Places that must be unique within a statement, and must not be negative.
CREATE TABLE strict (id integer PRIMARY KEY DEFERRABLE, body text);
CREATE TABLE strict_chunks (
    id integer, chunk_index smallint CHECK (chunk_index >= 0), content text, embedding vector(384),
    made serial, PRIMARY KEY (id, chunk_index));
SELECT vector_embed.attach_chunks('strict', 'body', 'strict_chunks', '{id}', max_tokens => 12);
INSERT INTO strict VALUES
    (1, 'The cat sleeps on the warm stove. The dog waits at the door. The hens are in the garden.'),
    (2, 'Only one.');
UPDATE strict SET body = 'A new first sentence here. ' || body WHERE id = 1;
UPDATE strict SET id = 3 - id;
SELECT * FROM (SELECT id, chunk_index, content, made FROM strict_chunks) c ORDER BY id, chunk_index;
-- A key that another document had, and a trigger that changes the text once the key has changed.
WITH gone AS (DELETE FROM strict WHERE id = 2 RETURNING id) UPDATE strict SET id = 2 FROM gone WHERE strict.id = 1;
CREATE FUNCTION go_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_trigger_depth() < 2 THEN UPDATE chunks.strict SET body = NEW.body || ' It goes on.' WHERE id = NEW.id; END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER go_on AFTER UPDATE ON strict FOR EACH ROW EXECUTE FUNCTION go_on();
UPDATE strict SET id = 1, body = body || ' With more words than fit in one chunk of these.';
DROP TRIGGER go_on ON strict;
SELECT * FROM (SELECT id, chunk_index, content FROM strict_chunks) c ORDER BY id, chunk_index;
-- A chunk table is of one table of documents.
CREATE TABLE others (id integer PRIMARY KEY, body text);
SELECT vector_embed.attach_chunks('others', 'body', 'strict_chunks', '{id}');
\echo :SQLSTATE

-- What is missing.
INSERT INTO strict VALUES (3, NULL), (4, E' \n\u3000'), (5, 'Lost later.'), (6, 'There.');
DELETE FROM strict_chunks WHERE id = 5;
SELECT * FROM vector_embed.attachment_status('strict');
CREATE ROLE chunks_counter;
GRANT USAGE ON SCHEMA chunks TO chunks_counter;
GRANT SELECT ON strict TO chunks_counter;
SET ROLE chunks_counter;
SELECT * FROM vector_embed.attachment_status('strict');
RESET ROLE;
DROP OWNED BY chunks_counter;
DROP ROLE chunks_counter;

-- What cannot be.
CREATE TABLE parts (id integer PRIMARY KEY, body text) PARTITION BY HASH (id);
SELECT vector_embed.attach_chunks('parts', 'body', 'x');
\echo :SQLSTATE
CREATE TABLE keyless (body text);
CREATE VIEW seen AS SELECT * FROM notes;
SELECT vector_embed.attach_chunks(NULL, 'body', 'x');
\echo :SQLSTATE
SELECT vector_embed.attach_chunks('notes', NULL, 'x');
\echo :SQLSTATE
SELECT vector_embed.attach_chunks('notes', 'body', NULL);
\echo :SQLSTATE
SELECT vector_embed.attach_chunks('notes', 'nothing', 'x');
\echo :SQLSTATE
SELECT vector_embed.attach_chunks('notes', 'id', 'x');
\echo :SQLSTATE
SELECT vector_embed.attach_chunks('keyless', 'body', 'x');
\echo :SQLSTATE
SELECT vector_embed.attach_chunks('seen', 'body', 'x');
\echo :SQLSTATE
SELECT vector_embed.attach_chunks('notes', 'body', 'seen', '{id}');
\echo :SQLSTATE
SELECT vector_embed.attach_chunks('notes', 'body', 'notes', '{id}');
\echo :SQLSTATE
SELECT vector_embed.attach_chunks('notes', 'body', 'x', '{a, b}');
\echo :SQLSTATE
SELECT vector_embed.attach_chunks('notes', 'body', 'x', max_tokens => 1000);
\echo :SQLSTATE
SELECT vector_embed.attach_chunks('notes', 'body', 'x', format => 'html');
\echo :SQLSTATE
SELECT vector_embed.attach_chunks('notes', 'body', 'x', model => 'no-such-model');
\echo :SQLSTATE
SELECT vector_embed.attach_chunks('notes', 'body', 'x', columns => '{"text": "body"}');
\echo :SQLSTATE
SELECT vector_embed.attach_chunks('notes', 'body', 'x', columns => '["content"]');
\echo :SQLSTATE
SELECT vector_embed.attach_chunks('notes', 'body', 'x', fill => '{"a": "nothing"}');
\echo :SQLSTATE
SELECT vector_embed.attach_chunks('notes', 'body', 'papers', '{id}');
\echo :SQLSTATE
CREATE TRIGGER by_hand AFTER INSERT ON keyless FOR EACH STATEMENT EXECUTE FUNCTION vector_embed.embed_chunks('body');
\echo :SQLSTATE
INSERT INTO keyless VALUES ('x');
\echo :SQLSTATE
ALTER TABLE note_embeddings RENAME TO moved_away;
\echo :SQLSTATE
INSERT INTO notes VALUES (40, 'kim', 'Its table has gone.');
\echo :SQLSTATE
SET client_min_messages = warning;
DROP SCHEMA chunks CASCADE;
