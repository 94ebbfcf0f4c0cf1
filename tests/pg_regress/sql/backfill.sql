-- Vectors of rows that were there before: backfill, in committed batches.
\set SHOW_CONTEXT never
\set VERBOSITY default
CREATE FUNCTION wrong(relation regclass, texts text, key text, embedding text DEFAULT 'embedding') RETURNS SETOF text
LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT %s::text FROM %s WHERE (%s) IS NULL AND %4$I IS NOT NULL OR (%3$s) IS NOT NULL AND %4$I IS NULL
             OR 1 - (%4$I::vector <=> embed(%3$s)) < 0.999 ORDER BY 1', key, relation, texts, embedding);
END $$;

CREATE TABLE letters (id integer PRIMARY KEY, subject text, body text, seen integer, embedding vector(384));
INSERT INTO letters (id, subject, body)
SELECT i, CASE WHEN i % 5 <> 0 THEN 'Letter ' || i END, CASE WHEN i % 7 <> 0 THEN 'It came on day ' || i END
FROM generate_series(1, 120) AS i;

-- What cannot be.
CALL vector_embed.backfill('letters');
\echo :SQLSTATE
SELECT vector_embed.attach('letters', 'embedding', '{subject,body}');
BEGIN;
CALL vector_embed.backfill('letters');
\echo :SQLSTATE
ROLLBACK;
CALL vector_embed.backfill('letters', 'nothing');
\echo :SQLSTATE
CALL vector_embed.backfill('letters', 'body');
\echo :SQLSTATE
CALL vector_embed.backfill('letters', batch => 0);
\echo :SQLSTATE
CALL vector_embed.backfill('letters', pause => '-1 s');
\echo :SQLSTATE
CALL vector_embed.backfill(NULL);
\echo :SQLSTATE
CREATE ROLE stranger;
SET ROLE stranger;
CALL vector_embed.backfill('letters');
\echo :SQLSTATE
RESET ROLE;

-- Batches of one size or another; what has its vector is left alone.
CALL vector_embed.backfill('letters', 'embedding', batch => 7, pause => '1 ms');
SELECT * FROM vector_embed.attachment_status('letters');
SELECT * FROM wrong('letters', $$nullif(concat_ws(E'\n\n', subject, body), '')$$, 'id');
UPDATE letters SET embedding = (SELECT embedding FROM letters WHERE id = 2) WHERE id = 1;
CALL vector_embed.backfill('letters');
SELECT * FROM wrong('letters', $$nullif(concat_ws(E'\n\n', subject, body), '')$$, 'id');
SELECT count(*) FROM vector_embed.stat_backfill;

-- A row that cannot be stored, or whose text cannot be embedded, is told of and stops no other.
ALTER TABLE letters DISABLE TRIGGER USER;
UPDATE letters SET embedding = NULL;
UPDATE letters SET body = repeat('word ', 500) WHERE id IN (60, 61);
ALTER TABLE letters ENABLE TRIGGER USER;
ALTER TABLE letters ADD CONSTRAINT not_these CHECK (embedding IS NULL OR id NOT IN (4, 90));
SET vector_embed.overlong_text = 'error';
CALL vector_embed.backfill('letters');
SELECT id FROM letters WHERE embedding IS NULL AND num_nonnulls(subject, body) > 0 ORDER BY id;
RESET vector_embed.overlong_text;
SET client_min_messages = error;
CALL vector_embed.backfill('letters');
RESET client_min_messages;
SELECT id FROM letters WHERE embedding IS NULL AND num_nonnulls(subject, body) > 0 ORDER BY id;
ALTER TABLE letters DROP CONSTRAINT not_these;

-- A trigger of the table's own that lets no UPDATE pass, or fails.
CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.id = 4 THEN RETURN NULL; END IF;
    IF new.id = 90 THEN RAISE EXCEPTION 'not this one' USING ERRCODE = 'P0001'; END IF;
    RETURN new;
END $$;
CREATE TRIGGER pass BEFORE UPDATE ON letters FOR EACH ROW EXECUTE FUNCTION pass();
CALL vector_embed.backfill('letters');
DROP TRIGGER pass ON letters;
-- A deferred one, too, stops no other row.
CREATE CONSTRAINT TRIGGER pass AFTER UPDATE ON letters DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION pass();
CALL vector_embed.backfill('letters');
DROP TRIGGER pass ON letters;
CALL vector_embed.backfill('letters');

-- Another model by the same name: only with stale, and then the triggers know it.
UPDATE letters SET embedding = (SELECT embedding FROM letters WHERE id = 2) WHERE num_nonnulls(subject, body) > 0;
DO $$
BEGIN
    EXECUTE format('COMMENT ON TRIGGER zz_vector_embed_embedding ON letters IS %L',
                   'vector_embed {"timing":"row","hash":"' || repeat('0', 64) || '"}');
END $$;
SELECT drifted FROM vector_embed.attachments WHERE relation = 'letters'::regclass;
INSERT INTO letters (id, body) VALUES (500, 'refused');
\echo :SQLSTATE
CALL vector_embed.backfill('letters', stale => true, batch => 50);
SELECT drifted FROM vector_embed.attachments WHERE relation = 'letters'::regclass;
SELECT * FROM wrong('letters', $$nullif(concat_ws(E'\n\n', subject, body), '')$$, 'id');
INSERT INTO letters (id, body) VALUES (500, 'taken');
CALL vector_embed.backfill('letters', stale => true);

-- Where a row is left, the hash is not recorded, but rows that are written meanwhile have the new model's vectors.
ALTER TABLE letters DISABLE TRIGGER USER;
UPDATE letters SET seen = 1 WHERE id = 4;
ALTER TABLE letters ADD CONSTRAINT not_these CHECK (seen IS NULL OR id <> 4) NOT VALID;
ALTER TABLE letters ENABLE TRIGGER USER;
DO $$
BEGIN
    EXECUTE format('COMMENT ON TRIGGER zz_vector_embed_embedding ON letters IS %L',
                   'vector_embed {"timing":"row","hash":"' || repeat('0', 64) || '"}');
END $$;
CALL vector_embed.backfill('letters', stale => true);
SELECT drifted FROM vector_embed.attachments WHERE relation = 'letters'::regclass;
INSERT INTO letters (id, body) VALUES (501, 'taken, too');
ALTER TABLE letters DROP CONSTRAINT not_these;
CALL vector_embed.backfill('letters', stale => true);
SELECT drifted FROM vector_embed.attachments WHERE relation = 'letters'::regclass;

-- The hash with each row: attach(…, provenance => …).
SELECT vector_embed.attach('letters', 'embedding', '{subject,body}', provenance => 'seen');
\echo :SQLSTATE
SELECT vector_embed.attach('letters', 'embedding', '{subject,body}', provenance => 'body');
\echo :SQLSTATE
ALTER TABLE letters ADD made_by text, ADD short varchar(10);
SELECT vector_embed.attach('letters', 'embedding', '{subject,body}', provenance => 'short');
\echo :SQLSTATE
SELECT vector_embed.attach('letters', 'embedding', '{subject,body}', provenance => 'made_by');
SELECT vector_embed.attach('letters', 'embedding', '{subject,body}', provenance => 'made_by');
INSERT INTO letters (id, body) VALUES (600, 'by the trigger');
INSERT INTO letters (id) VALUES (601);
SELECT l.id, l.made_by = m.hash AS by_the_model FROM letters l, vector_embed.models m WHERE l.id >= 500 ORDER BY 1;
CALL vector_embed.backfill('letters', stale => true);
UPDATE letters SET made_by = 'another' WHERE id BETWEEN 10 AND 19;
UPDATE letters SET subject = NULL, body = NULL WHERE id = 600;
CALL vector_embed.backfill('letters', stale => true);
SELECT l.made_by = m.hash AS by_the_model, count(*) FROM letters l, vector_embed.models m GROUP BY 1 ORDER BY 1;
SELECT vector_embed.attach('letters', 'embedding', '{subject,body}', timing => 'statement', provenance => 'made_by');
INSERT INTO letters (id, body) VALUES (700, 'by the statement''s trigger'), (701, NULL);
SELECT l.id, l.made_by = m.hash AS by_the_model FROM letters l, vector_embed.models m WHERE l.id >= 700 ORDER BY 1;
SELECT * FROM wrong('letters', $$nullif(concat_ws(E'\n\n', subject, body), '')$$, 'id');

-- Interrupted while vectors are made anew: the hash is recorded only when none of the other model's are left.
CREATE TABLE old (id integer PRIMARY KEY, part integer, body text, made_by text, embedding vector(384));
CREATE FUNCTION old_vector() RETURNS vector LANGUAGE sql AS 'SELECT array_fill(1, ARRAY[384])::vector';
CREATE FUNCTION interrupt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.body = 'text 18' THEN RAISE EXCEPTION 'interrupted' USING ERRCODE = 'query_canceled'; END IF;
    RETURN new;
END $$;
-- All vectors are old, and a call has been interrupted at row 18.
CREATE PROCEDURE interrupted() LANGUAGE plpgsql AS $$
DECLARE
    name text;
    json jsonb;
BEGIN
    TRUNCATE old;
    SET LOCAL session_replication_role = replica;
    INSERT INTO old SELECT i, -i, 'text ' || i, 'another', old_vector() FROM generate_series(1, 30) AS i;
    SET LOCAL session_replication_role = origin;
    FOR name, json IN
        SELECT tgname, substr(obj_description(oid, 'pg_trigger'), 14)::jsonb FROM pg_trigger
        WHERE tgrelid = 'old'::regclass AND tgname LIKE 'zz%'
    LOOP
        json = jsonb_set(json, '{hash}', to_jsonb(repeat('0', 64)));
        EXECUTE format('COMMENT ON TRIGGER %I ON old IS %L', name, 'vector_embed ' || json::text);
    END LOOP;
    CREATE TRIGGER interrupt BEFORE UPDATE ON old FOR EACH ROW EXECUTE FUNCTION interrupt();
    COMMIT;
END $$;
SELECT vector_embed.attach('old', 'embedding', '{body}');

-- None was left: it goes on behind its key, and nothing that was made anew is made once more.
CALL interrupted();
CALL vector_embed.backfill('old', stale => true, batch => 5);
SELECT after_key, done, failed FROM vector_embed.backfill_state;
SELECT count(*), min(id) FROM old WHERE embedding = old_vector();
SELECT drifted FROM vector_embed.attachments WHERE relation = 'old'::regclass;
DROP TRIGGER interrupt ON old;
CALL vector_embed.backfill('old', stale => true, batch => 5);
SELECT id FROM old WHERE embedding = old_vector();
SELECT * FROM wrong('old', 'body', 'id');
SELECT drifted FROM vector_embed.attachments WHERE relation = 'old'::regclass;

-- One row was left before that.
CALL interrupted();
ALTER TABLE old ADD CONSTRAINT not_this CHECK (id <> 1) NOT VALID;
CALL vector_embed.backfill('old', stale => true, batch => 5);
SELECT after_key, done, failed FROM vector_embed.backfill_state;
DROP TRIGGER interrupt ON old;
CALL vector_embed.backfill('old', stale => true, batch => 5);
SELECT id FROM old WHERE embedding = old_vector();
SELECT drifted FROM vector_embed.attachments WHERE relation = 'old'::regclass;
ALTER TABLE old DROP CONSTRAINT not_this;
CALL vector_embed.backfill('old', stale => true, batch => 5);
SELECT id FROM old WHERE embedding = old_vector();
SELECT drifted FROM vector_embed.attachments WHERE relation = 'old'::regclass;

-- The primary key is another now, so that its order is, too.
CALL interrupted();
CALL vector_embed.backfill('old', stale => true, batch => 5);
SELECT after_key FROM vector_embed.backfill_state;
DROP TRIGGER interrupt ON old;
ALTER TABLE old DROP CONSTRAINT old_pkey, ADD PRIMARY KEY (part);
CALL vector_embed.backfill('old', stale => true, batch => 5);
SELECT count(*) FROM old WHERE embedding = old_vector();
ALTER TABLE old DROP CONSTRAINT old_pkey, ADD PRIMARY KEY (id);

-- Nothing is known of a column that is not attached any more.
CALL interrupted();
CALL vector_embed.backfill('old', stale => true, batch => 5);
SELECT embedding, running, done FROM vector_embed.stat_backfill;
SELECT vector_embed.detach('old', 'embedding');
SELECT count(*) FROM vector_embed.stat_backfill;
DROP TRIGGER interrupt ON old;

-- Rows have moved behind the key where it was interrupted: by their provenance they are found.
SELECT vector_embed.attach('old', 'embedding', '{body}', provenance => 'made_by');
CALL interrupted();
CALL vector_embed.backfill('old', stale => true, batch => 5);
DROP TRIGGER interrupt ON old;
UPDATE old SET id = -id WHERE id > 25;
UPDATE old SET made_by = 'another', embedding = old_vector() WHERE id = 2;
CALL vector_embed.backfill('old', stale => true, batch => 5);
SELECT id FROM old WHERE embedding = old_vector() OR made_by = 'another';
SELECT drifted FROM vector_embed.attachments WHERE relation = 'old'::regclass;
DROP TABLE old;
DROP FUNCTION interrupt(), old_vector();
DROP PROCEDURE interrupted();

-- Keys and columns of all kinds, below a hostile search_path.
CREATE SCHEMA "Odd ""one";
CREATE DOMAIN "Odd ""one"."Key" AS text COLLATE "C";
CREATE TYPE "Odd ""one".mood AS ENUM ('glad', 'sad', 'neither');
CREATE TABLE "Odd ""one"."T ' t" (
    "K 1" "Odd ""one"."Key", mood "Odd ""one".mood, at timestamptz, amount numeric, fixed char(4), part uuid,
    "the text" json, whole text GENERATED ALWAYS AS (amount::text || ' apples') STORED, "E" halfvec(384),
    PRIMARY KEY (mood, "K 1", at, amount, fixed, part));
INSERT INTO "Odd ""one"."T ' t"
SELECT 'k''" ' || i % 3, (enum_range(NULL::"Odd ""one".mood))[i % 3 + 1],
       timestamptz '2026-01-01 00:00:00.123456+00' + i * interval '1.000001 s', i * 1.10, 'f' || i % 2,
       ('00000000-0000-0000-0000-' || lpad(i::text, 12, '0'))::uuid, json_build_object('number', i)
FROM generate_series(1, 40) AS i;
SELECT vector_embed.attach('"Odd ""one"."T '' t"', 'E', '{the text,whole}', timing => 'statement');
SET DateStyle = 'German';
SET search_path = "Odd ""one", pg_catalog, public;
CREATE FUNCTION "Odd ""one".never(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT 1 / 0 = 1';
CREATE OPERATOR "Odd ""one".= (LEFTARG = text, RIGHTARG = text, FUNCTION = "Odd ""one".never);
CREATE OPERATOR "Odd ""one".<> (LEFTARG = text, RIGHTARG = text, FUNCTION = "Odd ""one".never);
CREATE OPERATOR "Odd ""one".> (LEFTARG = text, RIGHTARG = text, FUNCTION = "Odd ""one".never);
CALL vector_embed.backfill('"Odd ""one"."T '' t"', batch => 6);
RESET search_path;
RESET DateStyle;
SELECT * FROM wrong('"Odd ""one"."T '' t"', $$concat_ws(E'\n\n', "the text"::text, whole)$$, 'part', 'E');

-- Partitions, and a partition alone.
CREATE TABLE events (day date, id bigint, what text, embedding vector(384), PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
INSERT INTO events SELECT date '2026-01-20' + i % 20, i, 'event ' || i FROM generate_series(1, 60) AS i;
SELECT vector_embed.attach('events', 'embedding', '{what}');
CALL vector_embed.backfill('events_2', batch => 9);
SELECT tableoid::regclass, count(*), count(embedding) FROM events GROUP BY 1 ORDER BY 1;
CALL vector_embed.backfill('events', batch => 9);
SELECT * FROM wrong('events', 'what', 'id');

-- An owner under row-level security that hides everything, also from him.
CREATE ROLE keeper;
GRANT CREATE ON SCHEMA public TO keeper;
SET ROLE keeper;
CREATE TABLE hidden (id integer PRIMARY KEY, body text, embedding vector(384));
INSERT INTO hidden VALUES (1, 'one'), (2, 'two');
ALTER TABLE hidden ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
SELECT vector_embed.attach('hidden', 'embedding', '{body}');
CALL vector_embed.backfill('hidden');
ALTER TABLE hidden NO FORCE ROW LEVEL SECURITY;
SELECT * FROM wrong('hidden', 'body', 'id');
SELECT relation FROM vector_embed.stat_backfill;
TABLE vector_embed.backfill_state;
\echo :SQLSTATE
RESET ROLE;
CALL vector_embed.backfill('hidden');

-- Several columns of a table, triggers by hand, and tables without a key.
CREATE TABLE two (id integer PRIMARY KEY, a text, b text, of_a vector(384), of_b vector(384));
INSERT INTO two VALUES (1, 'one', 'two');
SELECT vector_embed.attach('two', 'of_a', '{a}');
CREATE TRIGGER by_hand BEFORE INSERT OR UPDATE ON two
    FOR EACH ROW EXECUTE FUNCTION vector_embed.embed_row('of_b', 'all-MiniLM-L6-v2', 'b');
CALL vector_embed.backfill('two');
CALL vector_embed.backfill('two', 'of_b', stale => true);
CREATE TABLE keyless (body text, embedding vector(384));
SELECT vector_embed.attach('keyless', 'embedding', '{body}');
CALL vector_embed.backfill('keyless');
\echo :SQLSTATE
CREATE VIEW looks AS SELECT * FROM two;
CALL vector_embed.backfill('looks');
\echo :SQLSTATE

-- Chunks: documents that have none get theirs.
CREATE TABLE manuals (id integer PRIMARY KEY, body text);
INSERT INTO manuals SELECT i, repeat('Turn the valve to the left. ', i) || 'Manual ' || i FROM generate_series(1, 12) AS i;
INSERT INTO manuals VALUES (13, NULL), (14, E' \n ');
SELECT vector_embed.attach_chunks('manuals', 'body', 'passages', max_tokens => 24);
CALL vector_embed.backfill('manuals', batch => 5);
SELECT embedding, total, embedded, missing FROM vector_embed.attachment_status('manuals');
SELECT count(*) FROM passages WHERE 1 - (embedding <=> embed(content)) < 0.999;
SELECT document_id, count(*), string_agg(content, ' ' ORDER BY chunk_index) = (SELECT rtrim(body) FROM manuals WHERE id = 5) AS whole
FROM passages WHERE document_id = 5 GROUP BY 1;
DELETE FROM passages WHERE document_id = 5;
CALL vector_embed.backfill('manuals', 'public.passages.embedding');
CALL vector_embed.backfill('manuals', 'embedding');
SELECT count(DISTINCT document_id) FROM passages;
-- Stale chunks keep their ids, and get other vectors.
CREATE TEMP TABLE before AS SELECT id FROM passages;
UPDATE passages SET embedding = (SELECT embedding FROM passages LIMIT 1);
DO $$
DECLARE name text; comment jsonb;
BEGIN
    FOR name, comment IN
        SELECT tgname, substr(obj_description(oid, 'pg_trigger'), 14)::jsonb FROM pg_trigger WHERE tgrelid = 'manuals'::regclass
        AND NOT tgisinternal
    LOOP
        EXECUTE format('COMMENT ON TRIGGER %I ON manuals IS %L', name,
                       'vector_embed ' || (jsonb_set(comment, '{hash}', to_jsonb(repeat('0', 64)))::text));
    END LOOP;
END $$;
CALL vector_embed.backfill('manuals', stale => true);
SELECT drifted, problem FROM vector_embed.attachments WHERE relation = 'manuals'::regclass;
SELECT count(*) FROM passages WHERE 1 - (embedding <=> embed(content)) < 0.999;
SELECT count(*) FROM before FULL JOIN passages USING (id) WHERE before.id IS NULL OR content IS NULL;

SET client_min_messages = warning;
DROP TABLE letters, two, keyless, events, hidden, passages, manuals CASCADE;
DROP SCHEMA "Odd ""one" CASCADE;
DROP FUNCTION wrong(regclass, text, text, text), pass();
REVOKE CREATE ON SCHEMA public FROM keeper;
DROP ROLE stranger;
DROP ROLE keeper;
