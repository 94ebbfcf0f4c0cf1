-- Timing "queue": writers append keys to a queue, and background workers make the vectors after commit.
\set SHOW_CONTEXT never
\pset null '~'
CREATE FUNCTION is_of(vector, text) RETURNS boolean LANGUAGE sql AS 'SELECT 1 - ($1 <=> embed($2)) >= 0.999999';
CREATE TABLE later (id integer PRIMARY KEY, title text, body text, embedding vector(384));
SELECT vector_embed.attach('later', 'embedding', '{title,body}', timing => 'queue');
SELECT attname, format_type(atttypid, atttypmod), attnotnull, col_description(attrelid, attnum) FROM pg_attribute
WHERE attrelid = 'later_embedding_queue'::regclass AND attnum > 0 ORDER BY attnum;
SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'later_embedding_queue'::regclass ORDER BY 1;
SELECT obj_description('later_embedding_queue'::regclass);
SELECT tgname, tgfoid::regproc, regexp_replace(obj_description(oid, 'pg_trigger'), '[0-9a-f]{64}', '(hash)')
FROM pg_trigger WHERE tgrelid = 'later'::regclass ORDER BY 1;
SELECT relation, embedding, columns, timing, enabled, problem, queue FROM vector_embed.attachments;
SELECT vector_embed.attach('later', 'embedding', '{title,body}', timing => 'queue');

-- What a transaction queues. Within it nothing is taken, so that there is something to see.
CREATE VIEW queued AS SELECT key1, supplied, count(*) FROM later_embedding_queue GROUP BY 1, 2 ORDER BY 1, 2;
BEGIN;
INSERT INTO later VALUES (1, 'One', 'The first row.'), (2, NULL, 'Another.'), (3, NULL, NULL);
INSERT INTO later VALUES (4, 'Supplied', 'It has a vector.', array_fill(0.5, ARRAY[384])::vector);
TABLE queued;
SELECT * FROM vector_embed.attachment_status('later');
UPDATE later SET title = title;
UPDATE later SET body = 'It was changed.' WHERE id = 1;
TABLE queued;
SELECT relation, embedding, queue, depth, failed, oldest = now() AS oldest FROM vector_embed.queue;
COMMIT;
CALL vector_embed.drain('later', '5 min');
SELECT id, is_of(embedding, concat_ws(E'\n\n', title, body)), embedding = array_fill(0.5, ARRAY[384])::vector AS supplied
FROM later ORDER BY id;
SELECT * FROM vector_embed.attachment_status('later');
SELECT relation, embedding, queue, depth, failed, oldest FROM vector_embed.queue;

-- Which updates queue a row: another text, a vector that is NULL; a vector that is supplied only where one was waited for.
BEGIN;
UPDATE later SET title = NULL, body = NULL WHERE id = 2;
UPDATE later SET body = 'A text.' WHERE id = 3;
UPDATE later SET embedding = NULL WHERE id = 4;
UPDATE later SET embedding = array_fill(0.25, ARRAY[384])::vector WHERE id = 1;
TABLE queued;
COMMIT;
CALL vector_embed.drain('later', '5 min');
SELECT id, is_of(embedding, concat_ws(E'\n\n', title, body)), embedding = array_fill(0.25, ARRAY[384])::vector AS supplied
FROM later ORDER BY id;
BEGIN;
UPDATE later SET body = 'Supplied after this was written.' WHERE id = 3;
UPDATE later SET embedding = array_fill(0.125, ARRAY[384])::vector WHERE id = 3;
UPDATE later SET body = 'Written after it was supplied.' WHERE id = 1;
UPDATE later SET body = 'Deleted and supplied again.' WHERE id = 4;
DELETE FROM later WHERE id = 4;
INSERT INTO later VALUES (4, NULL, 'Another one.', array_fill(0.125, ARRAY[384])::vector);
TABLE queued;
COMMIT;
CALL vector_embed.drain('later', '5 min');
SELECT id, is_of(embedding, concat_ws(E'\n\n', title, body)), embedding = array_fill(0.125, ARRAY[384])::vector AS supplied
FROM later ORDER BY id;

-- A row that waits goes on waiting by another key. One that does not wait is left alone.
BEGIN;
UPDATE later SET body = 'Moves.' WHERE id = 1;
UPDATE later SET id = id + 10;
TABLE queued;
COMMIT;
CALL vector_embed.drain('later', '5 min');
SELECT id, is_of(embedding, concat_ws(E'\n\n', title, body)) FROM later ORDER BY id;

-- What is undone, deleted or truncated leaves nothing behind.
BEGIN;
UPDATE later SET body = 'Never.';
ROLLBACK;
BEGIN;
SAVEPOINT s;
UPDATE later SET body = 'Not this.';
ROLLBACK TO s;
INSERT INTO later VALUES (20, NULL, 'Goes.') ON CONFLICT (id) DO UPDATE SET body = 'Not here.';
INSERT INTO later VALUES (11, NULL, 'Not here.') ON CONFLICT (id) DO UPDATE SET title = NULL, body = 'By upsert.';
DELETE FROM later WHERE id = 20;
TABLE queued;
COMMIT;
CALL vector_embed.drain('later', '5 min');
SELECT id, is_of(embedding, body) FROM later WHERE id = 11;
BEGIN;
INSERT INTO later SELECT i, NULL, 'Row ' || i FROM generate_series(100, 120) AS i;
TRUNCATE later;
COMMIT;
CALL vector_embed.drain('later', '5 min');
SELECT count(*) FROM later_embedding_queue;

-- A row at fault fails alone, waits longer each time, and is tried again when somebody asks or changes it.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN RAISE EXCEPTION 'no vector for row %', NEW.id USING ERRCODE = 'check_violation', DETAIL = 'Its text is: ' || NEW.body; END$$;
CREATE TRIGGER refuse BEFORE UPDATE OF embedding ON later FOR EACH ROW WHEN (NEW.body = 'bad') EXECUTE FUNCTION refuse();
INSERT INTO later SELECT i, NULL, CASE i % 5 WHEN 3 THEN 'bad' ELSE 'good ' || i END FROM generate_series(1, 20) AS i;
CALL vector_embed.drain('later', '5 min');
SELECT count(*), count(embedding) FROM later;
SELECT relation, embedding, key, sqlstate, message, attempts > 0 AS tried, next_try IS NOT NULL AS again FROM vector_embed.failures ORDER BY key;
SELECT depth, failed, oldest FROM vector_embed.queue;
SELECT * FROM vector_embed.attachment_status('later');
UPDATE later SET body = 'not bad any more' WHERE id = 3;
DELETE FROM later WHERE id = 8;
CALL vector_embed.drain('later', '5 min');
SELECT key FROM vector_embed.failures ORDER BY key;
SELECT vector_embed.retry_failures('later');
CALL vector_embed.drain('later', '5 min');
SELECT key FROM vector_embed.failures ORDER BY key;
DROP TRIGGER refuse ON later;
SELECT vector_embed.retry_failures('later');
CALL vector_embed.drain('later', '5 min');
SELECT count(*), count(embedding), (SELECT count(*) FROM vector_embed.failures) AS failures FROM later;
-- A trigger that changes the text at every UPDATE is followed three times, then that is an error.
CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.body := NEW.body || '!'; RETURN NEW; END$$;
CREATE TRIGGER change BEFORE UPDATE ON later FOR EACH ROW WHEN (NEW.id < 3) EXECUTE FUNCTION change();
UPDATE later SET body = 'no end' WHERE id = 1;
CALL vector_embed.drain('later', '5 min');
SELECT key, sqlstate, message FROM vector_embed.failures;
DROP TRIGGER change ON later;
SELECT vector_embed.retry_failures('later');
CALL vector_embed.drain('later', '5 min');
SELECT is_of(embedding, body) FROM later WHERE id = 1;

-- drain: not within a transaction, with a limit, and only where there is a queue.
BEGIN;
CALL vector_embed.drain('later');
\echo :SQLSTATE
ROLLBACK;
DO $$BEGIN CALL vector_embed.drain('later'); END$$;
CALL vector_embed.drain(NULL);
\echo :SQLSTATE
CREATE TABLE plain (id integer PRIMARY KEY, body text, embedding vector(384));
CALL vector_embed.drain('plain');
CREATE TABLE held (id integer PRIMARY KEY, body text, embedding vector(384));
SELECT vector_embed.attach('held', 'embedding', '{body}', timing => 'queue');
INSERT INTO held VALUES (1, 'Nobody makes my vector.');
CALL vector_embed.drain('held', '5 min');
ALTER TABLE held RENAME COLUMN embedding TO vector;
UPDATE held SET body = 'Still nobody.';
\echo :SQLSTATE
ALTER TABLE held RENAME COLUMN vector TO embedding;

-- Another timing, or none: not while rows wait, unless somebody insists.
BEGIN;
UPDATE held SET body = 'Waits.';
SELECT vector_embed.attach('held', 'embedding', '{body}', timing => 'statement');
\echo :SQLSTATE
ROLLBACK;
BEGIN;
UPDATE held SET body = 'Waits.';
SELECT vector_embed.detach('held', 'embedding');
SELECT to_regclass('held_embedding_queue');
ROLLBACK;
SELECT vector_embed.attach('held', 'embedding', '{body}', timing => 'statement');
SELECT to_regclass('held_embedding_queue');
SELECT vector_embed.attach('held', 'embedding', '{body}', timing => 'queue');
-- The queue goes with its table.
DROP TABLE held;
SELECT to_regclass('held_embedding_queue');

-- What cannot have a queue.
CREATE TABLE no_key (id integer, body text, embedding vector(384));
SELECT vector_embed.attach('no_key', 'embedding', '{body}', timing => 'queue');
\echo :SQLSTATE
CREATE TABLE needed (id integer PRIMARY KEY, body text, embedding vector(384) NOT NULL);
SELECT vector_embed.attach('needed', 'embedding', '{body}', timing => 'queue');
\echo :SQLSTATE
CREATE TEMPORARY TABLE own (id integer PRIMARY KEY, body text, embedding vector(384));
SELECT vector_embed.attach('own', 'embedding', '{body}', timing => 'queue');
\echo :SQLSTATE
CREATE TABLE parts (id integer PRIMARY KEY, body text, embedding vector(384)) PARTITION BY RANGE (id);
SELECT vector_embed.attach('parts', 'embedding', '{body}', timing => 'queue');
\echo :SQLSTATE
SELECT vector_embed.attach('plain', 'embedding', '{body}', timing => 'sometime');
\echo :SQLSTATE
-- By hand there is no queue.
CREATE TRIGGER by_hand AFTER INSERT ON plain REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION vector_embed.embed_later('embedding', 'all-MiniLM-L6-v2', 'body');
INSERT INTO plain VALUES (1, 'Nowhere to go.');
\echo :SQLSTATE
DROP TRIGGER by_hand ON plain;

-- Keys of several columns, of any types; names that need quotes; unlogged tables; several columns of a table.
CREATE DOMAIN code AS varchar(5);
CREATE UNLOGGED TABLE "Odd ""names""" (
    "Key, the first" code, at timestamptz, amount numeric(10, 2), word text COLLATE "C",
    "The text" text, short halfvec(384), "A rather long name of a column to see that the names are cut ä" vector,
    PRIMARY KEY (at, "Key, the first", amount, word));
SELECT vector_embed.attach('"Odd ""names"""', 'short', '{"The text"}', timing => 'queue');
SELECT vector_embed.attach('"Odd ""names"""', 'A rather long name of a column to see that the names are cut ä', '{"The text"}', timing => 'queue');
SELECT relname, relpersistence FROM pg_class WHERE relname LIKE 'Odd%queue' ORDER BY 1;
SET datestyle = 'SQL, DMY';
INSERT INTO "Odd ""names""" VALUES ('a''b', '2026-11-21 12:00:00.123456+01', 1.50, 'w', 'A text.'), ('c', 'infinity', 0, '', 'Another.');
UPDATE "Odd ""names""" SET amount = 2 WHERE word = 'w';
CALL vector_embed.drain('"Odd ""names"""', '5 min');
SELECT word, short::vector <=> embed("The text") < 1e-5, is_of("A rather long name of a column to see that the names are cut ä", "The text")
FROM "Odd ""names""" ORDER BY word;
RESET datestyle;
SELECT relation, embedding, depth FROM vector_embed.queue ORDER BY 1, 2;
DROP TABLE "Odd ""names""";

-- A key of another type than the queue's, a queue that was moved, renamed, replaced or given away: the writer is told.
CREATE TABLE moved (id integer PRIMARY KEY, body text, embedding vector(384));
SELECT vector_embed.attach('moved', 'embedding', '{body}', timing => 'queue');
ALTER TABLE moved ALTER id TYPE bigint;
INSERT INTO moved VALUES (1, 'x');
\echo :SQLSTATE
ALTER TABLE moved ALTER id TYPE integer;
ALTER TABLE moved_embedding_queue RENAME TO elsewhere_queue;
INSERT INTO moved VALUES (1, 'x');
\echo :SQLSTATE
SELECT problem, queue FROM vector_embed.attachments WHERE relation = 'moved'::regclass;
SELECT relation, queue, depth FROM vector_embed.queue WHERE relation = 'moved'::regclass;
CREATE VIEW moved_embedding_queue AS SELECT * FROM elsewhere_queue;
INSERT INTO moved VALUES (1, 'x');
\echo :SQLSTATE
DROP VIEW moved_embedding_queue;
ALTER TABLE elsewhere_queue RENAME TO moved_embedding_queue;
CREATE RULE hidden AS ON INSERT TO moved_embedding_queue DO INSTEAD NOTHING;
INSERT INTO moved VALUES (1, 'x');
\echo :SQLSTATE
DROP RULE hidden ON moved_embedding_queue;
CREATE SCHEMA another;
ALTER TABLE moved SET SCHEMA another;
INSERT INTO another.moved VALUES (1, 'x');
\echo :SQLSTATE
ALTER TABLE moved_embedding_queue SET SCHEMA another;
INSERT INTO another.moved VALUES (1, 'x');
CALL vector_embed.drain('another.moved', '5 min');
SELECT is_of(embedding, body) FROM another.moved;

-- Whoever writes rows needs no privilege on the queue; whoever looks sees the queues of roles that he has.
CREATE ROLE regress_queue_owner;
CREATE ROLE regress_queue_writer;
ALTER TABLE another.moved OWNER TO regress_queue_owner;
INSERT INTO another.moved VALUES (2, 'y');
\echo :SQLSTATE
ALTER TABLE another.moved_embedding_queue OWNER TO regress_queue_owner;
GRANT USAGE ON SCHEMA another TO regress_queue_owner, regress_queue_writer;
GRANT SELECT, INSERT, UPDATE ON another.moved TO regress_queue_writer;
SET ROLE regress_queue_writer;
INSERT INTO another.moved VALUES (2, 'By somebody.');
UPDATE another.moved SET body = 'By somebody else.' WHERE id = 1;
SELECT * FROM another.moved_embedding_queue;
\echo :SQLSTATE
SELECT relation FROM vector_embed.queue;
SELECT relation FROM vector_embed.failures;
SELECT total, pending FROM vector_embed.attachment_status('another.moved');
CALL vector_embed.drain('another.moved', '5 min');
\echo :SQLSTATE
SELECT vector_embed.retry_failures('another.moved');
\echo :SQLSTATE
SELECT vector_embed.attach('another.moved', 'embedding', '{body}', timing => 'row');
\echo :SQLSTATE
RESET ROLE;
SET ROLE regress_queue_owner;
CALL vector_embed.drain('another.moved', '5 min');
SELECT relation, depth FROM vector_embed.queue;
RESET ROLE;
SELECT id, is_of(embedding, body) FROM another.moved ORDER BY id;

-- Chunk tables, too.
CREATE TABLE documents (id integer PRIMARY KEY, owner text, body text);
SELECT vector_embed.attach_chunks('documents', 'body', 'document_chunks', '{document_id}', max_tokens => 16, timing => 'sometime');
\echo :SQLSTATE
SELECT vector_embed.attach_chunks('documents', 'body', 'document_chunks', '{document_id}', max_tokens => 16,
    fill => '{"owner": "owner"}', timing => 'queue');
SELECT vector_embed.attach_chunks('documents', 'body', 'document_chunks', '{document_id}', max_tokens => 16,
    fill => '{"owner": "owner"}', timing => 'queue');
SELECT relation, embedding, timing, problem, chunk_table, queue FROM vector_embed.attachments WHERE relation = 'documents'::regclass;
BEGIN;
INSERT INTO documents VALUES (1, 'a', 'One sentence of a document. And another one, so that there are two chunks of it.'), (2, 'b', 'Short.'), (3, 'c', NULL);
SELECT count(*) FROM document_chunks;
SELECT key1 FROM documents_document_chunks_queue ORDER BY 1;
COMMIT;
CALL vector_embed.drain('documents', '5 min');
SELECT document_id, chunk_index, owner, content, is_of(embedding, content) FROM document_chunks ORDER BY 1, 2;
SELECT * FROM vector_embed.attachment_status('documents');
BEGIN;
UPDATE documents SET owner = 'z' WHERE id = 1;
UPDATE documents SET id = 20 WHERE id = 2;
SELECT count(*) FROM documents_document_chunks_queue;
UPDATE documents SET body = 'One sentence of a document.' WHERE id = 1;
UPDATE documents SET body = body;
SELECT key1 FROM documents_document_chunks_queue ORDER BY 1;
COMMIT;
CALL vector_embed.drain('documents', '5 min');
SELECT document_id, chunk_index, owner, content, is_of(embedding, content) FROM document_chunks ORDER BY 1, 2;
DELETE FROM document_chunks WHERE document_id = 20;
UPDATE documents SET owner = owner;
CALL vector_embed.drain('documents', '5 min');
SELECT document_id, content FROM document_chunks ORDER BY 1, 2;
DELETE FROM documents WHERE id = 1;
SELECT document_id, content FROM document_chunks ORDER BY 1, 2;
BEGIN;
INSERT INTO documents VALUES (5, 'e', 'Waits.');
SELECT vector_embed.detach_chunks('documents', 'document_chunks');
ROLLBACK;
SELECT vector_embed.detach_chunks('documents', 'document_chunks');
SELECT to_regclass('documents_document_chunks_queue');

-- A vector that was supplied goes with its row when the key changes, whoever waits by the new key.
CREATE TABLE moving (id integer PRIMARY KEY, body text, embedding vector(384));
SELECT vector_embed.attach('moving', 'embedding', '{body}', timing => 'queue');
BEGIN;
INSERT INTO moving VALUES (1, 'one');
UPDATE moving SET embedding = array_fill(0.5, ARRAY[384])::vector;
UPDATE moving SET id = 2;
COMMIT;
BEGIN;
INSERT INTO moving VALUES (11, 'Waits.');
INSERT INTO moving VALUES (12, 'Supplied.', array_fill(0.5, ARRAY[384])::vector);
UPDATE moving SET id = 13 WHERE id = 11;
UPDATE moving SET id = 11 WHERE id = 12;
SELECT key1, supplied FROM moving_embedding_queue WHERE key1 > 10 ORDER BY id;
COMMIT;
CALL vector_embed.drain('moving', '5 min');
SELECT id, is_of(embedding, body), embedding = array_fill(0.5, ARRAY[384])::vector AS supplied FROM moving ORDER BY id;

-- Keys that are equal and written in different ways are the same row's.
CREATE TABLE amounts (id numeric PRIMARY KEY, body text, embedding vector(384));
SELECT vector_embed.attach('amounts', 'embedding', '{body}', timing => 'queue');
SELECT vector_embed.attach_chunks('amounts', 'body', 'amount_chunks', '{amount_id}', timing => 'queue');
BEGIN;
INSERT INTO amounts VALUES (1.0, 'One.'), (2.0, 'Supplied.');
UPDATE amounts SET id = 1.00 WHERE id = 1;
UPDATE amounts SET id = 2.00, embedding = array_fill(0.5, ARRAY[384])::vector WHERE id = 2;
SELECT key1, supplied FROM amounts_embedding_queue ORDER BY id;
COMMIT;
CALL vector_embed.drain('amounts', '1 min');
SELECT id, is_of(embedding, body), embedding = array_fill(0.5, ARRAY[384])::vector AS supplied FROM amounts ORDER BY id;
SELECT amount_id, content, is_of(embedding, content) FROM amount_chunks ORDER BY 1;
SELECT queue, depth FROM vector_embed.queue WHERE relation = 'amounts'::regclass;

-- A key that is made wider. A queue that could not hold it is none.
CREATE TABLE widened (id numeric(6,1) PRIMARY KEY, body text, embedding vector(384));
SELECT vector_embed.attach('widened', 'embedding', '{body}', timing => 'queue');
ALTER TABLE widened ALTER id TYPE numeric(9,4);
INSERT INTO widened VALUES (12345.6789, 'Has many digits.');
CALL vector_embed.drain('widened', '5 min');
SELECT id, is_of(embedding, body) FROM widened;
ALTER TABLE widened_embedding_queue ALTER key1 TYPE numeric(6,1);
INSERT INTO widened VALUES (1, 'Cannot wait.');
\echo :SQLSTATE

-- A queue that was changed is not as it should be, and hides no others.
ALTER TABLE amounts_embedding_queue ALTER queued_at DROP DEFAULT, ALTER queued_at TYPE text;
UPDATE amounts SET body = 'Cannot wait.';
\echo :SQLSTATE
SELECT relation, embedding, queue, depth FROM vector_embed.queue WHERE relation IN ('amounts'::regclass, 'moving'::regclass);
SELECT count(*) FROM vector_embed.failures WHERE relation = 'amounts'::regclass;

-- What a trigger changes once when the vector is written may be changed as often as it is written.
CREATE FUNCTION mark() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.body := NEW.body || '!'; RETURN NEW; END$$;
CREATE TRIGGER mark BEFORE UPDATE ON moving FOR EACH ROW WHEN (NEW.body NOT LIKE '%!' AND NEW.embedding IS DISTINCT FROM OLD.embedding)
EXECUTE FUNCTION mark();
UPDATE moving SET body = 'First time.';
CALL vector_embed.drain('moving', '5 min');
UPDATE moving SET body = 'Second time.';
CALL vector_embed.drain('moving', '5 min');
UPDATE moving SET body = 'Third time.';
CALL vector_embed.drain('moving', '5 min');
UPDATE moving SET body = 'Fourth time.';
CALL vector_embed.drain('moving', '5 min');
UPDATE moving SET body = 'Fifth time.';
CALL vector_embed.drain('moving', '5 min');
SELECT id, body, is_of(embedding, body) FROM moving ORDER BY id;
SELECT key, sqlstate FROM vector_embed.failures WHERE relation = 'moving'::regclass;

-- A key of names is found whatever the writer's search_path.
CREATE SCHEMA apart;
CREATE TABLE apart.thing (x integer);
CREATE TABLE named (id regclass PRIMARY KEY, body text, embedding vector(384));
SELECT vector_embed.attach('named', 'embedding', '{body}', timing => 'queue');
SET search_path = public, apart;
INSERT INTO named VALUES ('thing', 'A table in another schema.');
RESET search_path;
CALL vector_embed.drain('named', '5 min');
SELECT id, is_of(embedding, body) FROM named;
SELECT key, sqlstate FROM vector_embed.failures WHERE relation = 'named'::regclass;

SET client_min_messages = warning;
DROP TABLE moving, amounts, amount_chunks, widened, named, apart.thing;
DROP SCHEMA apart;
DROP FUNCTION mark;
DROP TABLE documents, document_chunks;
DROP SCHEMA another CASCADE;
DROP ROLE regress_queue_owner, regress_queue_writer;
DROP VIEW queued;
DROP TABLE later, plain, no_key, needed, own, parts;
DROP DOMAIN code;
DROP FUNCTION is_of, refuse, change;
