-- diff and checksum: is the copy what it was copied from?
\set SHOW_CONTEXT never
CREATE TABLE old (id text, title text, size text, rating double precision, taken text, tags json);
INSERT INTO old VALUES
    ('1', 'One', '8589934592', 'NaN', '2025-09-01 10:00:00Z', '{"a": 1}'), ('2', 'Two', '20', -0.0, NULL, NULL),
    ('3', 'Three', NULL, 0.1, '2025-09-01T12:00:00+02', '[]');
CREATE TABLE new (id bigint PRIMARY KEY, title varchar(3), size bigint, rating real, taken timestamptz, tags jsonb, added boolean DEFAULT true);
INSERT INTO new (id, title, size, rating, taken, tags)
    SELECT id::bigint, title::varchar(3), size::bigint, rating, taken::timestamptz, tags::jsonb FROM old;

-- What was lost on the way: characters of a title, digits of a number. Times are the same, however they are written.
SELECT * FROM vector_embed.diff('old', 'new') ORDER BY key COLLATE "C", column_name COLLATE "C";
ALTER TABLE new ALTER title TYPE text, ALTER rating TYPE double precision;
UPDATE new SET title = 'Three', rating = 0.1 WHERE id = 3;
SELECT * FROM vector_embed.diff('old', 'new');

-- A value that differs, NULL on one side, a row that is missing, one too many, and a key that is there twice.
UPDATE new SET title = 'two', size = NULL WHERE id = 2;
UPDATE new SET tags = '{"b": 1}' WHERE id = 1;
DELETE FROM new WHERE id = 3;
INSERT INTO new (id) VALUES (4);
INSERT INTO old SELECT '1', 'One, again' FROM generate_series(1, 2);
INSERT INTO old (id) VALUES (NULL), (NULL);
SELECT * FROM vector_embed.diff('old', 'new') ORDER BY key COLLATE "C", column_name COLLATE "C";
-- The other way round: text takes every bigint, so that is what keys are compared as.
SELECT * FROM vector_embed.diff('new', 'old', '{id}', '{title}') ORDER BY key COLLATE "C", column_name COLLATE "C";
SELECT key FROM vector_embed.diff('old', 'new') ORDER BY key LIMIT 1;
SELECT vector_embed.diff('old', 'new', columns => '{}') ORDER BY 1;

-- Not comparable.
SELECT * FROM vector_embed.diff('new', 'old');
\echo :SQLSTATE
SELECT * FROM vector_embed.diff('new', 'old', '{id}');
\echo :SQLSTATE
SELECT * FROM vector_embed.diff('old', 'new', '{id}', '{added}');
\echo :SQLSTATE
SELECT * FROM vector_embed.diff('old', 'new', '{tags}');
SELECT * FROM vector_embed.diff('old', 'old', '{tags}');
\echo :SQLSTATE
SELECT * FROM vector_embed.diff('old', 'new', '{}');
\echo :SQLSTATE
SELECT * FROM vector_embed.diff('old', 'new', '{id,id}');
\echo :SQLSTATE
SELECT * FROM vector_embed.diff('old', 'new', ARRAY[NULL]);
SELECT * FROM vector_embed.diff(NULL, 'new');
\echo :SQLSTATE
SELECT * FROM vector_embed.diff('new_pkey', 'new');
\echo :SQLSTATE
CREATE VIEW narrow AS SELECT id, true AS size FROM new;
SELECT * FROM vector_embed.diff('new', 'narrow', '{id}', '{size}');
\echo :SQLSTATE
INSERT INTO old VALUES ('five');
SELECT * FROM vector_embed.diff('old', 'new');
\echo :SQLSTATE
DROP VIEW narrow;
DROP TABLE old, new;

-- A key of several columns; names that need quotes; views and partitioned tables.
CREATE TABLE "Old" ("Episode Id" char(4), step integer, "It's" text, "a ""name""" bytea, PRIMARY KEY ("Episode Id", step));
INSERT INTO "Old" VALUES ('a', 1, 'x', '\x00ff'), ('a', 2, '', ''), ('b', 1, NULL, NULL);
CREATE TABLE parts ("Episode Id" text, step smallint, "It's" text, "a ""name""" bytea, PRIMARY KEY ("Episode Id", step)) PARTITION BY LIST (step);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE parts_2 PARTITION OF parts DEFAULT;
INSERT INTO parts SELECT * FROM "Old";
CREATE VIEW viewed AS SELECT * FROM "Old";
SELECT * FROM vector_embed.diff('viewed', 'parts');
UPDATE parts SET "It's" = NULL, "a ""name""" = '\x00fe' WHERE "Episode Id" = 'a';
SELECT * FROM vector_embed.diff('viewed', 'parts') ORDER BY key COLLATE "C", column_name COLLATE "C";
DROP VIEW viewed;
DROP TABLE "Old", parts;

-- Types with their own ideas: scale, zero, blanks, collation, no equality at all, a length that a cast would cut to.
CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE DOMAIN short AS text CHECK (length(value) < 4);
CREATE TABLE ways (id text COLLATE any_case PRIMARY KEY, n numeric, z float8, c char(6), t text COLLATE any_case, j json, p point, v vector(2), i interval, b bit(3), s short, a text[], r real);
CREATE TABLE ways_old (id text, n numeric, z float8, c text, t text, j text, p point, v text, i interval, b bit varying, s text, a varchar[], r float8);
INSERT INTO ways VALUES ('k', 1.50, -0.0, 'ab', 'same', '{"a":1}', '(0,1)', '[1,2]', '1 day', B'101', 'abc', '{a,NULL}', 0.5);
INSERT INTO ways_old VALUES ('k', 1.5, 0, 'ab', 'same', '{"a":1}', '(0,1)', '[1.0,2.0]', '24 hours', B'101', 'abc', '{a,NULL}', 0.5);
SELECT * FROM vector_embed.diff('ways_old', 'ways');
UPDATE ways_old SET t = 'SAME', j = '{"a": 1}', p = '(-0,1)', v = '[1,2.5]', b = B'1011', s = 'abcdef', a = '{a,b}', r = 0.1;
SELECT * FROM vector_embed.diff('ways_old', 'ways') ORDER BY column_name COLLATE "C";
UPDATE ways SET id = 'K';
SELECT * FROM vector_embed.diff('ways_old', 'ways') ORDER BY key COLLATE "C";
DROP TABLE ways, ways_old;
DROP DOMAIN short;
DROP COLLATION any_case;

-- Many rows in little memory; nothing is compared twice.
CREATE TABLE many AS SELECT i AS id, md5(i::text) AS body FROM generate_series(1, 30000) AS i;
CREATE TABLE copied (LIKE many);
INSERT INTO copied SELECT * FROM many ORDER BY body;
SET work_mem = '64kB';
SELECT count(*) FROM vector_embed.diff('many', 'copied', '{id}');
UPDATE copied SET body = '' WHERE id % 1000 = 1;
SELECT count(*), min(column_name), count(DISTINCT key) FROM vector_embed.diff('many', 'copied', '{id}');
SELECT count(*) FROM vector_embed.diff('many', 'copied', '{body}', '{}');
RESET work_mem;
-- It may be interrupted, and sees what the statement sees that calls it.
BEGIN;
SET LOCAL statement_timeout = 1;
SELECT count(*) FROM vector_embed.diff('many', 'copied', '{id}');
ROLLBACK;
WITH gone AS (DELETE FROM copied RETURNING id)
SELECT count(*) AS deleted, (SELECT count(*) FROM vector_embed.diff('many', 'copied', '{id}')) AS differ FROM gone;
DROP TABLE copied;

-- checksum: the order of rows does not matter, nor that of columns; everything else does.
SELECT * FROM vector_embed.checksum('many');
CREATE TABLE turned AS SELECT body, id FROM many ORDER BY body;
SELECT * FROM vector_embed.checksum('turned');
UPDATE turned SET id = -id WHERE id = 7;
SELECT * FROM vector_embed.checksum('turned');
UPDATE turned SET id = 7 WHERE id = -7;
ALTER TABLE turned ADD extra text;
SELECT * FROM vector_embed.checksum('turned', '{id,body}');
SELECT (SELECT checksum FROM vector_embed.checksum('turned')) <> (SELECT checksum FROM vector_embed.checksum('many')) AS differs;
-- Equal rows do not cancel out; NULL is not empty, and not the word; values do not run into one another.
CREATE TABLE few (a text, b text);
SELECT * FROM vector_embed.checksum('few');
INSERT INTO few VALUES ('x', 'y');
SELECT * FROM vector_embed.checksum('few');
INSERT INTO few VALUES ('x', 'y'), ('x', 'y');
SELECT * FROM vector_embed.checksum('few');
CREATE TABLE seen (what text, rows bigint, checksum text UNIQUE);
TRUNCATE few; INSERT INTO few VALUES (NULL, ''); INSERT INTO seen SELECT 'null, empty', * FROM vector_embed.checksum('few');
TRUNCATE few; INSERT INTO few VALUES ('', NULL); INSERT INTO seen SELECT 'empty, null', * FROM vector_embed.checksum('few');
TRUNCATE few; INSERT INTO few VALUES ('NULL', ''); INSERT INTO seen SELECT 'the word', * FROM vector_embed.checksum('few');
TRUNCATE few; INSERT INTO few VALUES ('a,b', 'c'); INSERT INTO seen SELECT 'a,b and c', * FROM vector_embed.checksum('few');
TRUNCATE few; INSERT INTO few VALUES ('a', 'b,c'); INSERT INTO seen SELECT 'a and b,c', * FROM vector_embed.checksum('few');
TRUNCATE few; INSERT INTO few VALUES ('a'',''b', 'c'); INSERT INTO seen SELECT 'quotes', * FROM vector_embed.checksum('few');
ALTER TABLE few RENAME a TO aa; INSERT INTO seen SELECT 'another name', * FROM vector_embed.checksum('few');
SELECT count(*) FROM seen;
DROP TABLE few, seen, turned, many;

-- Whatever the session is set to. What is equal has one checksum: scale, zero, blanks.
CREATE TABLE typed (n numeric, x float8, r real, at timestamptz, span interval, raw bytea, kind regclass, price money, c char(5), v vector(2), j jsonb, tags text[]);
INSERT INTO typed VALUES (1.50, 1e-7, 0.1, '2025-09-01 10:00:00.123456+02', '1 year 2 days 03:04:05', '\x00ff', 'typed', 12.5, 'ab', '[0.1,2]', '{"b": 1, "a": [1.0]}', '{x,NULL,"y z"}'),
    ('NaN', '-Infinity', '-0', 'infinity', NULL, '', NULL, NULL, '', NULL, NULL, '{}');
SELECT * FROM vector_embed.checksum('typed');
SET DateStyle = 'German'; SET TimeZone = 'Asia/Almaty'; SET IntervalStyle = 'iso_8601'; SET bytea_output = 'escape';
SET extra_float_digits = -5; SET search_path = pg_temp, public; SET quote_all_identifiers = on;
SELECT * FROM vector_embed.checksum('public.typed');
SHOW DateStyle;
RESET ALL;
UPDATE typed SET n = 1.5000, r = r + 0 WHERE n = 1.5;
UPDATE typed SET r = 0 WHERE r = 0;
SELECT * FROM vector_embed.checksum('typed');
SELECT * FROM vector_embed.checksum('typed', '{nosuch}');
\echo :SQLSTATE
SELECT * FROM vector_embed.checksum('typed', '{n,n}');
SELECT * FROM vector_embed.checksum(NULL);
DROP TABLE typed;
CREATE TABLE nothing ();
INSERT INTO nothing DEFAULT VALUES;
SELECT * FROM vector_embed.checksum('nothing');
DROP TABLE nothing;

-- What the caller may not read is not told, by name or by checksum; row security shows him his rows.
CREATE ROLE regress_embed_reader;
CREATE TABLE private (id integer PRIMARY KEY, owner text, secret text);
INSERT INTO private VALUES (1, 'regress_embed_reader', 'his'), (2, 'somebody', 'not his');
CREATE TABLE theirs AS TABLE private;
GRANT SELECT ON theirs TO regress_embed_reader;
GRANT SELECT (id, owner) ON private TO regress_embed_reader;
SET ROLE regress_embed_reader;
SELECT * FROM vector_embed.diff('theirs', 'private');
\echo :SQLSTATE
SELECT * FROM vector_embed.checksum('private');
SELECT * FROM vector_embed.diff('theirs', 'private', columns => '{owner}');
SELECT rows FROM vector_embed.checksum('private', '{id,owner}');
RESET ROLE;
ALTER TABLE private ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON private USING (owner = current_user);
SET ROLE regress_embed_reader;
SELECT * FROM vector_embed.diff('theirs', 'private', columns => '{owner}');
SELECT rows FROM vector_embed.checksum('private', '{id,owner}');
RESET ROLE;
DROP TABLE private, theirs;
DROP ROLE regress_embed_reader;

-- A search_path full of traps changes nothing.
CREATE TABLE same (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, body text);
INSERT INTO same VALUES (3, 'a');
CREATE SCHEMA traps;
CREATE FUNCTION traps.sprung(text, text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''trap''; END';
CREATE FUNCTION traps.sprung(bigint, integer) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''trap''; END';
CREATE FUNCTION traps.sprung(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''trap''; END';
CREATE OPERATOR traps.= (LEFTARG = text, RIGHTARG = text, FUNCTION = traps.sprung);
CREATE OPERATOR traps.= (LEFTARG = bigint, RIGHTARG = integer, FUNCTION = traps.sprung);
CREATE OPERATOR traps.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = traps.sprung);
CREATE OPERATOR traps.<> (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = traps.sprung);
CREATE FUNCTION traps.count(text) RETURNS bigint LANGUAGE sql AS 'SELECT 1/0::bigint';
CREATE FUNCTION traps.max(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1/0::bigint';
CREATE DOMAIN traps.text AS integer;
CREATE DOMAIN traps.numeric AS integer CHECK (value = 0);
CREATE VIEW traps.same AS SELECT 1 AS trap;
SET search_path = traps, pg_catalog, public;
SELECT * FROM vector_embed.diff('public.same', 'public.same');
SELECT * FROM vector_embed.checksum('public.same');
SELECT next_value FROM vector_embed.sync_identity('public.same');
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA traps CASCADE;
RESET client_min_messages;
SELECT * FROM vector_embed.checksum('same');
DROP TABLE same;
