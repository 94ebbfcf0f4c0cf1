-- embed_statement: the rows of a statement are stored, then their vectors are computed in batches and written back.
\set SHOW_CONTEXT never
CREATE FUNCTION is_of(vector, text) RETURNS boolean LANGUAGE sql AS 'SELECT 1 - ($1 <=> embed($2)) >= 0.999999';
CREATE TABLE notes (id integer PRIMARY KEY, title text, body text, embedding vector(384));
CREATE TRIGGER embed_insert AFTER INSERT ON notes REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION vector_embed.embed_statement('embedding', 'all-MiniLM-L6-v2', 'title', 'body');
CREATE TRIGGER embed_update AFTER UPDATE ON notes REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION vector_embed.embed_statement('embedding', 'all-MiniLM-L6-v2', 'title', 'body');

-- One request for a statement, however many rows. RETURNING shows the rows before their vectors.
SELECT requests AS before FROM vector_embed.stat_engine \gset
INSERT INTO notes SELECT i, 'Note ' || i, 'Written on day ' || i FROM generate_series(1, 500) i;
SELECT requests - :before AS requests FROM vector_embed.stat_engine;
SELECT count(*) FROM notes WHERE is_of(embedding, concat_ws(E'\n\n', title, body));
INSERT INTO notes VALUES (501, 'Late', NULL) RETURNING embedding IS NULL AS not_yet;
SELECT is_of(embedding, 'Late') FROM notes WHERE id = 501;

-- The rules are those of embed_row.
INSERT INTO notes VALUES (502, 'Moved here', NULL, array_fill(0.5, ARRAY[384])::vector), (503, NULL, NULL, NULL), (504, '', NULL, NULL);
SELECT id, vector_norm(embedding) > 9 AS kept, is_of(embedding, concat_ws(E'\n\n', title, body)) FROM notes WHERE id > 501 ORDER BY id;
UPDATE notes SET title = 'Changed', embedding = embedding WHERE id IN (1, 502);
UPDATE notes SET title = NULL, body = NULL WHERE id = 2;
UPDATE notes SET embedding = array_fill(0.25, ARRAY[384])::vector WHERE id = 3;
UPDATE notes SET embedding = NULL WHERE id = 4;
SELECT id, title, round(vector_norm(embedding)::numeric, 1) AS norm, is_of(embedding, concat_ws(E'\n\n', title, body)) FROM notes
    WHERE id IN (1, 2, 3, 4, 502) ORDER BY id;
SELECT requests AS before FROM vector_embed.stat_engine \gset
UPDATE notes SET title = title, embedding = embedding;
UPDATE notes SET body = body WHERE false;
INSERT INTO notes SELECT WHERE false;
SELECT requests - :before AS requests FROM vector_embed.stat_engine;

-- Keys may change in the same statement, also into each other.
UPDATE notes SET id = 1001 - id, title = 'Turned ' || id WHERE id BETWEEN 400 AND 402;
UPDATE notes SET id = id + 10000, title = 'Far ' || id WHERE id BETWEEN 5 AND 8;
SELECT id, is_of(embedding, concat_ws(E'\n\n', title, body)) FROM notes WHERE title LIKE 'Turned%' OR title LIKE 'Far%' ORDER BY id;
TRUNCATE notes;

-- Upserts, COPY, MERGE.
INSERT INTO notes (id, body) VALUES (1, 'The lamp is lit.');
INSERT INTO notes (id, body) VALUES (1, 'The lamp is out.'), (2, 'The oil is gone.') ON CONFLICT (id) DO UPDATE SET body = excluded.body;
COPY notes (id, body) FROM stdin;
3	The wick is short.
4	\N
\.
MERGE INTO notes n USING (VALUES (3, 'The wick is new.'), (5, 'The glass is clean.')) AS v (id, body) ON n.id = v.id
    WHEN MATCHED THEN UPDATE SET body = v.body WHEN NOT MATCHED THEN INSERT (id, body) VALUES (v.id, v.body);
SELECT id, is_of(embedding, body) FROM notes ORDER BY id;

-- The table's own triggers fire for the write-back, too. One that changes the text meanwhile does no harm.
CREATE FUNCTION amend() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE notes SET body = new.body || ' Amended.' WHERE id = new.id AND body NOT LIKE '%Amended.';
    RETURN NULL;
END $$;
CREATE TRIGGER amend AFTER INSERT ON notes FOR EACH ROW EXECUTE FUNCTION amend();
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE '% of row %', tg_op, new.id;
    RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION tell();
INSERT INTO notes (id, body) VALUES (6, 'The room is dark.');
SELECT body, is_of(embedding, body) FROM notes WHERE id = 6;
DROP TRIGGER tell ON notes;
DROP TRIGGER amend ON notes;
-- One that removes the row again.
CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM notes WHERE id = new.id; RETURN NULL; END';
CREATE TRIGGER forget AFTER INSERT ON notes FOR EACH ROW EXECUTE FUNCTION forget();
INSERT INTO notes (id, body) VALUES (7, 'Gone at once.');
SELECT count(*) FROM notes WHERE id = 7;
DROP TRIGGER forget ON notes;
-- One that changes the text at the write-back, too: its text is followed. At every write-back: that has no end.
CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.body := upper(new.body); RETURN new; END';
CREATE TRIGGER shout BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION shout();
INSERT INTO notes (id, body) VALUES (8, 'Quiet.');
SELECT body, is_of(embedding, body) FROM notes WHERE id = 8;
CREATE OR REPLACE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.body := new.body || ''!''; RETURN new; END';
INSERT INTO notes (id, body) VALUES (9, 'Loud');
\echo :SQLSTATE
UPDATE notes SET body = 'Loud' WHERE id = 8;
SELECT id, body, is_of(embedding, body) FROM notes WHERE id > 7;
DROP TRIGGER shout ON notes;

-- Statements that the table's triggers run meanwhile are like any others.
CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE notes SET body = 'supplied', embedding = array_fill(0.5, ARRAY[384])::vector WHERE id = 101;
    UPDATE notes SET embedding = NULL WHERE id = 102;
    RETURN NULL;
END $$;
INSERT INTO notes (id, body) VALUES (101, 'one'), (102, 'two');
CREATE TRIGGER busy AFTER UPDATE OF embedding ON notes FOR EACH STATEMENT WHEN (pg_trigger_depth() < 2) EXECUTE FUNCTION busy();
INSERT INTO notes (id, body) VALUES (103, 'three');
SELECT id, vector_norm(embedding) > 9 AS supplied, is_of(embedding, body) FROM notes WHERE id > 100 ORDER BY id;
DROP TRIGGER busy ON notes;

-- A vector that cannot be written is not passed over in silence.
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN CASE WHEN new.body IS DISTINCT FROM old.body THEN new END; END';
CREATE TRIGGER keep BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION keep();
INSERT INTO notes (id, body) VALUES (104, 'four'), (105, 'five');
\echo :SQLSTATE
UPDATE notes SET body = 'eins' WHERE id = 101;
DROP TRIGGER keep ON notes;
CREATE RULE nothing AS ON UPDATE TO notes DO INSTEAD NOTHING;
INSERT INTO notes (id, body) VALUES (104, 'four');
\echo :SQLSTATE
DROP RULE nothing ON notes;
SELECT count(*) FROM notes WHERE id > 103;
DROP TABLE notes;
DROP FUNCTION amend, tell, forget, shout, busy, keep;

-- Who may only insert has vectors written, and nothing else is done in the owner's name: neither by triggers nor in
-- what errors tell.
CREATE ROLE regress_embed_owner;
CREATE ROLE regress_embed_writer;
CREATE TABLE notes (id integer PRIMARY KEY, body text, secret text DEFAULT 'of the owner', written_by name,
    embedding vector(384) CONSTRAINT short CHECK (vector_norm(embedding) < 2 OR body IS NULL));
ALTER TABLE notes OWNER TO regress_embed_owner;
GRANT INSERT (id, body) ON notes TO regress_embed_writer;
CREATE FUNCTION sign_row() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.written_by := current_user; RETURN new; END';
CREATE TRIGGER sign BEFORE INSERT OR UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION sign_row();
SET ROLE regress_embed_owner;
SELECT vector_embed.attach('notes', 'embedding', '{body}', timing => 'statement');
ALTER TABLE notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY insert_only ON notes FOR INSERT WITH CHECK (true);
SET ROLE regress_embed_writer;
INSERT INTO notes (id, body) VALUES (1, 'From who may only insert.');
SELECT count(*) FROM notes;
RESET ROLE;
SELECT written_by, is_of(embedding, body) FROM notes;
ALTER TABLE notes DROP CONSTRAINT short, ADD CONSTRAINT short CHECK (embedding IS NULL OR vector_norm(embedding) < 0.5) NOT VALID;
SET ROLE regress_embed_writer;
INSERT INTO notes (id, body) VALUES (2, 'Refused.');
DO $$
DECLARE name text;
BEGIN
    INSERT INTO notes (id, body) VALUES (2, 'Refused.');
EXCEPTION WHEN check_violation THEN
    GET STACKED DIAGNOSTICS name = CONSTRAINT_NAME;
    RAISE NOTICE 'constraint %', name;
END $$;
RESET ROLE;
DROP TABLE notes;
DROP FUNCTION sign_row;
DROP ROLE regress_embed_owner, regress_embed_writer;

-- A text that goes takes the vector along, in flat memory: no row waits for anything.
CREATE TABLE notes (id integer PRIMARY KEY, body text, embedding vector(384));
INSERT INTO notes SELECT i, 'x', array_fill(0.5, ARRAY[384])::vector FROM generate_series(1, 6000) i;
CREATE TRIGGER embed_update AFTER UPDATE ON notes REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION vector_embed.embed_statement('embedding', 'all-MiniLM-L6-v2', 'body');
UPDATE notes SET body = NULL;
SELECT count(embedding) FROM notes;
DROP TABLE notes;

-- Any primary key, any name, a generated source, halfvec, a domain; no search_path is needed.
CREATE SCHEMA "Far away";
CREATE DOMAIN room AS text COLLATE "C";
CREATE DOMAIN half AS halfvec(384);
CREATE TABLE "Far away"."The Table" ("Room" room, slot int4range, tags text[], "Body" text,
    whole text GENERATED ALWAYS AS ("Room" || ': ' || "Body") STORED, "Vector" half,
    PRIMARY KEY ("Room", tags, slot) DEFERRABLE INITIALLY DEFERRED);
CREATE TRIGGER embed_insert AFTER INSERT ON "Far away"."The Table" REFERENCING NEW TABLE AS n
    FOR EACH STATEMENT EXECUTE FUNCTION vector_embed.embed_statement('Vector', 'all-MiniLM-L6-v2', 'whole');
CREATE TRIGGER embed_update AFTER UPDATE ON "Far away"."The Table" REFERENCING OLD TABLE AS o NEW TABLE AS n
    FOR EACH STATEMENT EXECUTE FUNCTION vector_embed.embed_statement('Vector', 'all-MiniLM-L6-v2', 'whole');
SET search_path = '';
INSERT INTO "Far away"."The Table" VALUES ('A', '[1,2)', '{x}', 'Quiet.'), ('A', '[3,4)', '{x,y}', 'Loud.');
UPDATE "Far away"."The Table" SET "Room" = 'B' WHERE slot = '[3,4)';
RESET search_path;
SELECT whole, "Vector" = embed(whole)::halfvec AS fresh FROM "Far away"."The Table" ORDER BY whole;
DROP TABLE "Far away"."The Table";
DROP DOMAIN room, half;
DROP SCHEMA "Far away";

-- An inherited table's rows are among those of its parent's statements.
CREATE TABLE cities (id integer PRIMARY KEY, name text, embedding vector(384));
CREATE TABLE capitals (PRIMARY KEY (id)) INHERITS (cities);
CREATE TRIGGER embed_update AFTER UPDATE ON cities REFERENCING OLD TABLE AS o NEW TABLE AS n
    FOR EACH STATEMENT EXECUTE FUNCTION vector_embed.embed_statement('embedding', 'all-MiniLM-L6-v2', 'name');
INSERT INTO cities VALUES (1, 'Bergen');
INSERT INTO capitals VALUES (1, 'Oslo');
UPDATE cities SET name = name || ' in Norway';
SELECT tableoid::regclass, name, is_of(embedding, name) FROM cities ORDER BY name;
DROP TABLE cities CASCADE;

-- A failure undoes the statement, and names the row to who may read it.
CREATE TABLE notes (id integer PRIMARY KEY, body text, embedding vector(384));
CREATE TRIGGER embed_insert AFTER INSERT ON notes REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION vector_embed.embed_statement('embedding', 'all-MiniLM-L6-v2', 'body');
SET vector_embed.overlong_text = error;
INSERT INTO notes VALUES (1, 'short'), (2, repeat('too long ', 300)), (3, 'short, too');
\echo :SQLSTATE
SELECT count(*) FROM notes;
RESET vector_embed.overlong_text;
INSERT INTO notes VALUES (1, repeat('too long ', 300)), (2, repeat('too long ', 301));
ALTER TABLE notes ALTER embedding TYPE vector(3) USING NULL;
INSERT INTO notes VALUES (3, 'short');
\echo :SQLSTATE

-- A trigger that cannot work says why.
ALTER TABLE notes DROP CONSTRAINT notes_pkey;
INSERT INTO notes VALUES (3, 'short');
\echo :SQLSTATE
CREATE OR REPLACE TRIGGER embed_insert AFTER INSERT ON notes
    FOR EACH STATEMENT EXECUTE FUNCTION vector_embed.embed_statement('embedding', 'all-MiniLM-L6-v2', 'body');
INSERT INTO notes VALUES (3, 'short');
\echo :SQLSTATE
DROP TRIGGER embed_insert ON notes;
CREATE TRIGGER embed_update AFTER UPDATE ON notes REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION vector_embed.embed_statement('embedding', 'all-MiniLM-L6-v2', 'body');
UPDATE notes SET body = 'x';
CREATE OR REPLACE TRIGGER embed_update BEFORE UPDATE ON notes
    FOR EACH ROW EXECUTE FUNCTION vector_embed.embed_statement('embedding', 'all-MiniLM-L6-v2', 'body');
UPDATE notes SET body = 'x';
\echo :SQLSTATE
DROP TABLE notes;
CREATE TABLE parts (id integer PRIMARY KEY, body text, embedding vector(384)) PARTITION BY RANGE (id);
CREATE TABLE parts_all PARTITION OF parts DEFAULT;
CREATE TRIGGER embed_insert AFTER INSERT ON parts_all REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION vector_embed.embed_statement('embedding', 'all-MiniLM-L6-v2', 'body');
INSERT INTO parts_all VALUES (1, 'x');
CREATE TRIGGER embed_insert AFTER INSERT ON parts REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION vector_embed.embed_statement('embedding', 'all-MiniLM-L6-v2', 'body');
INSERT INTO parts VALUES (1, 'x');
\echo :SQLSTATE
DROP TABLE parts;
DROP FUNCTION is_of;
