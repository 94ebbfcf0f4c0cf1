-- embed_row: an application writes rows as it always did, and the vectors follow.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS citext;
RESET client_min_messages;
CREATE FUNCTION is_of(vector, text) RETURNS boolean LANGUAGE sql AS 'SELECT 1 - ($1 <=> embed($2)) >= 0.999999';
CREATE FUNCTION texts() RETURNS bigint LANGUAGE sql AS 'SELECT texts FROM vector_embed.stat_engine';

CREATE TABLE notes (id integer PRIMARY KEY, title text, body text, seen integer, embedding vector(384));
CREATE TRIGGER embed BEFORE INSERT OR UPDATE ON notes
    FOR EACH ROW EXECUTE FUNCTION vector_embed.embed_row('embedding', 'all-MiniLM-L6-v2', 'title', 'body');

-- An inserted row has its vector, at once. Columns are joined by a blank line, NULL is left out.
INSERT INTO notes VALUES (1, 'Tulips', 'Plant the bulbs before the first frost.')
    RETURNING id, is_of(embedding, E'Tulips\n\nPlant the bulbs before the first frost.');
INSERT INTO notes VALUES (2, 'Hammer', NULL), (3, NULL, 'The handle is ash.'), (4, NULL, NULL), (5, '', NULL), (6, ' ', '')
    RETURNING id, embedding IS NULL AS no_vector, is_of(embedding, concat_ws(E'\n\n', title, body));

-- A vector that comes with the row is kept.
INSERT INTO notes (id, title, embedding) VALUES (7, 'Moved here', array_fill(0.5, ARRAY[384])::vector)
    RETURNING vector_norm(embedding) > 9 AS kept;
INSERT INTO notes (id, title, embedding) VALUES (8, 'Moved without', NULL) RETURNING is_of(embedding, title);

-- A text that changes gets another vector, also if the application writes all columns as it has read them.
UPDATE notes SET title = 'Daffodils' WHERE id = 1
    RETURNING is_of(embedding, E'Daffodils\n\nPlant the bulbs before the first frost.');
UPDATE notes SET (id, title, body, seen, embedding) = (SELECT 1, 'Crocuses', n.body, 0, n.embedding::text::vector FROM notes n WHERE id = 1)
    WHERE id = 1 RETURNING is_of(embedding, E'Crocuses\n\nPlant the bulbs before the first frost.');
-- A text that goes takes the vector along.
UPDATE notes SET title = NULL WHERE id = 2 RETURNING embedding IS NULL AS no_vector;
-- A changed vector is kept, with the text or without.
UPDATE notes SET embedding = array_fill(0.5, ARRAY[384])::vector WHERE id = 3 RETURNING vector_norm(embedding) > 9 AS kept;
UPDATE notes SET body = 'The handle is oak.', embedding = array_fill(0.25, ARRAY[384])::vector WHERE id = 3
    RETURNING round(vector_norm(embedding)::numeric, 1) AS norm;
-- A vector that is taken away is made anew.
UPDATE notes SET embedding = NULL WHERE id = 3 RETURNING is_of(embedding, body);

-- What leaves the text alone asks nobody.
SELECT requests AS before FROM vector_embed.stat_engine \gset
UPDATE notes SET seen = coalesce(seen, 0) + 1;
UPDATE notes SET title = title, body = body, embedding = embedding;
UPDATE notes SET title = body, body = title WHERE id = 3;
UPDATE notes SET id = id + 100;
INSERT INTO notes (id) VALUES (9);
DELETE FROM notes WHERE id = 9;
SELECT requests - :before AS requests FROM vector_embed.stat_engine;
-- Equal by value is unchanged, however the numbers are written: zero has two signs.
UPDATE notes SET embedding = (ARRAY['-0'] || array_fill('1'::text, ARRAY[383]))::real[]::vector WHERE id = 101;
UPDATE notes SET title = 'Squills', embedding = (array_cat(ARRAY[0], array_fill(1, ARRAY[383])))::vector WHERE id = 101
    RETURNING is_of(embedding, E'Squills\n\n' || body);
TRUNCATE notes;

-- ON CONFLICT fires for the INSERT and then for the UPDATE; the text is computed once.
INSERT INTO notes (id, body) VALUES (1, 'The ferry leaves at six.');
SELECT texts() AS before \gset
INSERT INTO notes (id, body) VALUES (1, 'The ferry leaves at seven.')
    ON CONFLICT (id) DO UPDATE SET body = excluded.body RETURNING is_of(embedding, 'The ferry leaves at seven.');
SELECT texts() - :before AS texts;
INSERT INTO notes (id, body) VALUES (1, 'The ferry leaves at eight.')
    ON CONFLICT (id) DO UPDATE SET body = excluded.body, embedding = excluded.embedding RETURNING is_of(embedding, body);
INSERT INTO notes (id, body) VALUES (1, 'never') ON CONFLICT DO NOTHING;
SELECT body, is_of(embedding, body) FROM notes;

-- COPY, MERGE, INSERT … SELECT and writable CTEs.
COPY notes (id, title, body) FROM stdin;
2	Glacier	Snow that stays turns to ice.
3	\N	Ice that moves grinds stone.
\.
MERGE INTO notes n USING (VALUES (3, 'Ice carves valleys.'), (4, 'Moraines mark where it ended.')) AS v (id, body) ON n.id = v.id
    WHEN MATCHED THEN UPDATE SET body = v.body WHEN NOT MATCHED THEN INSERT (id, body) VALUES (v.id, v.body);
INSERT INTO notes (id, body) SELECT i, 'Marker ' || i FROM generate_series(5, 6) i;
WITH moved AS (DELETE FROM notes WHERE id = 6 RETURNING body) INSERT INTO notes (id, body) SELECT 7, body FROM moved;
SELECT id, is_of(embedding, concat_ws(E'\n\n', title, body)) FROM notes ORDER BY id;
DROP TABLE notes;

-- Every type that is text, and domains over them. char(n) is without its padding, as its cast to text is.
CREATE DOMAIN slogan AS varchar(40) CHECK (value <> '');
CREATE DOMAIN motto AS slogan;
CREATE TABLE kinds (a text, b varchar(20), c char(20), d citext, e json, f jsonb, g motto, embedding vector);
CREATE TRIGGER embed BEFORE INSERT OR UPDATE ON kinds
    FOR EACH ROW EXECUTE FUNCTION vector_embed.embed_row('embedding', 'all-MiniLM-L6-v2', 'a', 'b', 'c', 'd', 'e', 'f', 'g');
INSERT INTO kinds VALUES ('one', 'two', 'three', 'Four', '{"five" :5}', '{"six" :6}', 'seven');
SELECT is_of(embedding, concat_ws(E'\n\n', a, b, c::text, d, e, f, g)) FROM kinds;
SELECT requests AS before FROM vector_embed.stat_engine \gset
UPDATE kinds SET c = 'three    ', f = '{"six":   6}';
SELECT requests - :before AS requests FROM vector_embed.stat_engine;
UPDATE kinds SET d = 'four' RETURNING is_of(embedding, concat_ws(E'\n\n', a, b, c::text, d, e, f, g));
-- A text that is stored elsewhere, compressed or not.
INSERT INTO kinds (a) VALUES (repeat('long and dull ', 2000));
ALTER TABLE kinds ALTER a SET STORAGE external;
SET client_min_messages = error; -- both texts are truncated
INSERT INTO kinds (a) VALUES (repeat('long and dull ', 2000));
UPDATE kinds SET b = 'short', embedding = embedding WHERE length(a) > 100;
SELECT length(a), is_of(embedding, a || E'\n\nshort') FROM kinds WHERE length(a) > 100;
RESET client_min_messages;
DROP TABLE kinds;
DROP DOMAIN motto, slogan;

-- Every type that takes vectors. What a type says of dimensions holds for triggers, too.
CREATE DOMAIN unit AS vector(384) CHECK (vector_norm(value) BETWEEN 0.99 AND 1.01);
CREATE DOMAIN impossible AS vector(384) CHECK (vector_norm(value) < 0.5);
CREATE TABLE columns (body text, v vector, v384 vector(384), h halfvec, h384 halfvec(384), u unit);
SELECT format('CREATE TRIGGER %s BEFORE INSERT OR UPDATE ON columns FOR EACH ROW
               EXECUTE FUNCTION vector_embed.embed_row(%L, ''all-MiniLM-L6-v2'', ''body'')', 'fill_' || attname, attname)
FROM pg_attribute WHERE attrelid = 'columns'::regclass AND attnum > 1 ORDER BY attnum \gexec
INSERT INTO columns VALUES ('Rain by noon.')
    RETURNING is_of(v, body), is_of(v384, body), h = embed(body)::halfvec AS half, h384 = h AS half_too, is_of(u, body);
UPDATE columns SET body = 'Sun by noon.', h = h::text::halfvec RETURNING is_of(v, body), h = embed(body)::halfvec AS half;
ALTER TABLE columns ADD w vector(3);
CREATE TRIGGER fill_w BEFORE INSERT OR UPDATE ON columns
    FOR EACH ROW EXECUTE FUNCTION vector_embed.embed_row('w', 'all-MiniLM-L6-v2', 'body');
INSERT INTO columns VALUES ('Fog by noon.');
\echo :SQLSTATE
ALTER TABLE columns DROP w, ADD w impossible;
INSERT INTO columns VALUES ('Hail by noon.');
DROP TRIGGER fill_w ON columns;
CREATE TRIGGER fill_w BEFORE INSERT OR UPDATE ON columns
    FOR EACH ROW EXECUTE FUNCTION vector_embed.embed_row('w', 'all-MiniLM-L6-v2', 'body');
INSERT INTO columns VALUES ('Hail by noon.');
\echo :SQLSTATE
SELECT count(*) FROM columns;
DROP TABLE columns;
DROP DOMAIN unit, impossible;

-- A vector that must be there is there in time.
CREATE TABLE strict (body text, embedding vector(384) NOT NULL);
CREATE TRIGGER embed BEFORE INSERT OR UPDATE ON strict
    FOR EACH ROW EXECUTE FUNCTION vector_embed.embed_row('embedding', 'all-MiniLM-L6-v2', 'body');
INSERT INTO strict VALUES ('The tide turns.') RETURNING is_of(embedding, body);
INSERT INTO strict VALUES (NULL);
\echo :SQLSTATE
DROP TABLE strict;

-- Partitions, also one whose columns have another order, and rows that move between them.
CREATE TABLE logs (day date, body text, embedding vector(384)) PARTITION BY RANGE (day);
CREATE TRIGGER embed BEFORE INSERT OR UPDATE ON logs
    FOR EACH ROW EXECUTE FUNCTION vector_embed.embed_row('embedding', 'all-MiniLM-L6-v2', 'body');
CREATE TABLE logs_spring PARTITION OF logs FOR VALUES FROM ('2026-03-01') TO ('2026-06-01');
CREATE TABLE logs_summer (embedding vector(384), gone text, body text, day date);
ALTER TABLE logs_summer DROP gone;
ALTER TABLE logs ATTACH PARTITION logs_summer FOR VALUES FROM ('2026-06-01') TO ('2026-09-01');
INSERT INTO logs VALUES ('2026-04-01', 'Swallows are back.'), ('2026-07-01', 'The well is low.');
INSERT INTO logs_summer (day, body) VALUES ('2026-08-01', 'Harvest begins.');
UPDATE logs SET body = 'Swallows nest.' WHERE day = '2026-04-01';
UPDATE logs SET day = '2026-06-30', body = 'The stream is dry.' WHERE day = '2026-04-01';
SELECT tableoid::regclass, body, is_of(embedding, body) FROM logs ORDER BY day;
DROP TABLE logs;

-- Inherited tables have triggers of their own.
CREATE TABLE cities (name text, embedding vector(384));
CREATE TABLE capitals (country text) INHERITS (cities);
CREATE TRIGGER embed BEFORE INSERT OR UPDATE ON capitals
    FOR EACH ROW EXECUTE FUNCTION vector_embed.embed_row('embedding', 'all-MiniLM-L6-v2', 'country', 'name');
INSERT INTO capitals (name, country) VALUES ('Oslo', 'Norway');
UPDATE cities SET name = 'Bergen';
SELECT name, is_of(embedding, E'Norway\n\nBergen') FROM cities;
DROP TABLE cities CASCADE;

-- Names are as in the catalogs, and no search_path is needed.
CREATE SCHEMA "Old Books";
CREATE TABLE "Old Books"."Shelf 1" (id integer, "Book Title" text, "Vector ""1""" vector(384));
CREATE TRIGGER embed BEFORE INSERT OR UPDATE ON "Old Books"."Shelf 1"
    FOR EACH ROW EXECUTE FUNCTION vector_embed.embed_row('Vector "1"', 'all-MiniLM-L6-v2', 'Book Title');
SET search_path = '';
INSERT INTO "Old Books"."Shelf 1" (id, "Book Title") VALUES (1, 'On bees');
RESET search_path;
SELECT is_of("Vector ""1""", "Book Title") FROM "Old Books"."Shelf 1";

-- Columns that were renamed or dropped are missed by name, where something depends on them.
ALTER TABLE "Old Books"."Shelf 1" RENAME "Book Title" TO title;
INSERT INTO "Old Books"."Shelf 1" (title) VALUES ('On wasps');
\echo :SQLSTATE
UPDATE "Old Books"."Shelf 1" SET id = 2;
ALTER TABLE "Old Books"."Shelf 1" RENAME title TO "Book Title";
ALTER TABLE "Old Books"."Shelf 1" DROP "Vector ""1""";
INSERT INTO "Old Books"."Shelf 1" ("Book Title") VALUES ('On wasps');
\echo :SQLSTATE
DROP TABLE "Old Books"."Shelf 1";
DROP SCHEMA "Old Books";

-- A trigger that cannot work says why.
CREATE TABLE wrong (id integer, body text, loud text GENERATED ALWAYS AS (upper(body)) STORED,
    embedding vector(384), made vector(384) GENERATED ALWAYS AS (vector_embed.embed_immutable(body, 'all-MiniLM-L6-v2')) STORED);
CREATE FUNCTION try(arguments text, event text DEFAULT 'BEFORE INSERT OR UPDATE', level text DEFAULT 'ROW') RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE OR REPLACE TRIGGER embed %s ON wrong FOR EACH %s EXECUTE FUNCTION vector_embed.embed_row(%s)',
                   event, level, arguments);
END $$;
SELECT try($$$$);
INSERT INTO wrong (body) VALUES ('x');
\echo :SQLSTATE
SELECT try($$'embedding', 'all-MiniLM-L6-v2'$$);
INSERT INTO wrong (body) VALUES ('x');
SELECT try($$'embedding', 'all-MiniLM-L6-v2', 'boddy'$$);
INSERT INTO wrong (body) VALUES ('x');
SELECT try($$'embedding', 'no-such-model', 'body'$$);
INSERT INTO wrong (body) VALUES ('x');
\echo :SQLSTATE
SELECT try($$'embedding', 'not a model', 'body'$$);
INSERT INTO wrong (body) VALUES ('x');
SELECT try($$'embedding', 'all-MiniLM-L6-v2', 'id'$$);
INSERT INTO wrong (body) VALUES ('x');
\echo :SQLSTATE
SELECT try($$'body', 'all-MiniLM-L6-v2', 'body'$$);
INSERT INTO wrong (body) VALUES ('x');
SELECT try($$'embedding', 'all-MiniLM-L6-v2', 'loud'$$);
INSERT INTO wrong (body) VALUES ('x');
\echo :SQLSTATE
SELECT try($$'made', 'all-MiniLM-L6-v2', 'body'$$);
INSERT INTO wrong (body) VALUES ('x');
\echo :SQLSTATE
SELECT try($$'embedding', 'all-MiniLM-L6-v2', 'body'$$, 'AFTER INSERT');
INSERT INTO wrong (body) VALUES ('x');
\echo :SQLSTATE
SELECT try($$'embedding', 'all-MiniLM-L6-v2', 'body'$$, 'BEFORE DELETE');
INSERT INTO wrong (body) VALUES ('x');
DELETE FROM wrong;
DROP TRIGGER embed ON wrong;
CREATE TRIGGER embed BEFORE INSERT ON wrong EXECUTE FUNCTION vector_embed.embed_row('embedding', 'all-MiniLM-L6-v2', 'body');
INSERT INTO wrong (body) VALUES ('x');
SELECT vector_embed.embed_row();
SELECT count(*) FROM wrong;
DROP TABLE wrong;

-- A text that is too long is the session's choice, as with embed().
CREATE TABLE notes (body text, embedding vector(384));
CREATE TRIGGER embed BEFORE INSERT OR UPDATE ON notes
    FOR EACH ROW EXECUTE FUNCTION vector_embed.embed_row('embedding', 'all-MiniLM-L6-v2', 'body');
INSERT INTO notes SELECT repeat('too long ', 300 + i) FROM generate_series(1, 3) i;
SET vector_embed.overlong_text = error;
INSERT INTO notes VALUES ('short'), (repeat('too long ', 300));
\echo :SQLSTATE
RESET vector_embed.overlong_text;
SELECT count(*) FROM notes;
DROP TABLE notes;

DROP FUNCTION try, is_of, texts;
