-- The model sees the same characters whatever the server's encoding.
\set SHOW_CONTEXT never
SELECT embed('grün')::text AS in_utf8 \gset
CREATE TABLE "grün" AS SELECT 1 AS id, 'Grüße' AS "größe";
SELECT checksum AS checksum_in_utf8 FROM vector_embed.checksum('"grün"') \gset
DROP TABLE "grün";
SELECT embed('дождь идёт')::text AS russian, embed_query('дождь идёт')::text AS russian_query,
       vector_embed.token_count('дождь идёт') AS russian_tokens \gset
SELECT embed('雨が降る')::text AS japanese, embed_query('雨が降る')::text AS japanese_query,
       vector_embed.token_count('雨が降る') AS japanese_tokens \gset
CREATE DATABASE regress_embed_latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0;
CREATE DATABASE regress_embed_ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0;
CREATE DATABASE regress_embed_win1251 ENCODING 'WIN1251' LOCALE 'C' TEMPLATE template0;
CREATE DATABASE regress_embed_euc_jp ENCODING 'EUC_JP' LOCALE 'C' TEMPLATE template0;
\set file `echo "$VECTOR_EMBED_FIXTURES/cities.db"`

\c regress_embed_latin1
SET client_encoding = 'UTF8';
SET client_min_messages = warning;
CREATE EXTENSION vector_embed CASCADE;
RESET client_min_messages;
SELECT octet_length('grün') AS bytes, embed('grün')::text = :'in_utf8' AS same;
SELECT (embed(ARRAY['grün']))[1]::text = :'in_utf8' AS same;
-- Triggers, too, and columns may be called so.
CREATE TABLE "Grüße" ("schlüssel" integer PRIMARY KEY, "größe" text, "gefühl" vector(384));
SELECT vector_embed.attach('"Grüße"', 'gefühl', '{größe}');
INSERT INTO "Grüße" VALUES (1, 'grün') RETURNING "gefühl"::text = :'in_utf8' AS same;
SELECT vector_embed.attach('"Grüße"', 'gefühl', '{größe}', timing => 'statement');
UPDATE "Grüße" SET "größe" = 'blau';
UPDATE "Grüße" SET "größe" = 'grün';
SELECT "gefühl"::text = :'in_utf8' AS same, (SELECT count(*) FROM vector_embed.attachments) AS attachments FROM "Grüße";
CREATE TABLE "grün" (id serial PRIMARY KEY, "größe" text);
INSERT INTO "grün" VALUES (1, 'Grüße');
SELECT checksum = :'checksum_in_utf8' AS same FROM vector_embed.checksum('"grün"');
SELECT * FROM vector_embed.diff('"grün"', '"grün"');
CREATE VIEW "blau" AS SELECT id, 'Größe' AS "größe" FROM "grün";
SELECT * FROM vector_embed.diff('blau', '"grün"');
ALTER TABLE "grün" RENAME id TO "schlüssel";
SELECT * FROM vector_embed.sync_identity('"grün"');
ALTER TABLE "Grüße" RENAME "größe" TO "höhe";
UPDATE "Grüße" SET "schlüssel" = 2;
-- Chunks are counted in characters of the server's encoding.
SELECT content, start_char, char_count, substr(text, start_char, char_count) = content AS same
FROM (VALUES ('Grüße aus Köln. Die Straße führt über die Brücke. Später gehen wir zurück.')) AS texts (text),
     vector_embed.chunk(text, max_tokens => 20);
CREATE TABLE "Blätter" ("schlüssel" integer PRIMARY KEY, "größe" text);
SELECT vector_embed.attach_chunks('"Blätter"', 'größe', '"Stücke"', '{schlüssel}', columns => '{"content": "stück"}');
INSERT INTO "Blätter" VALUES (1, 'grün');
SELECT "schlüssel", "stück", embedding::text = :'in_utf8' AS same FROM "Stücke";
SELECT chunk_table FROM vector_embed.attachments WHERE chunk_table IS NOT NULL;

-- Characters that the database cannot have do not get so far.
SELECT embed('雨');
\echo :SQLSTATE
-- Foreign tables: names, values, and conditions that go to the file; and a name that LATIN1 does not have.
CREATE SERVER cities FOREIGN DATA WRAPPER vector_embed_sqlite OPTIONS (path :'file');
IMPORT FOREIGN SCHEMA main FROM SERVER cities INTO public;
EXPLAIN (COSTS OFF, VERBOSE) SELECT "schlüssel" FROM "Städte" WHERE "größe" = 'Köln';
SELECT "schlüssel" FROM "Städte" WHERE "größe" = 'Köln';
SELECT "schlüssel" FROM "Städte" WHERE "größe" IN ('Orléans', 'Bonn') ORDER BY 1;
PREPARE city (text) AS SELECT "schlüssel" FROM "Städte" WHERE "größe" = $1;
EXECUTE city ('Orléans');
SELECT embed("größe")::text = embed('Orléans')::text AS same FROM "Städte" WHERE "schlüssel" = 2;
SELECT * FROM "Städte";
\echo :SQLSTATE
ALTER SERVER cities OPTIONS (ADD on_error 'null');
SELECT * FROM "Städte" ORDER BY 1;

-- Russian.
\c regress_embed_win1251
SET client_encoding = 'UTF8';
SET client_min_messages = warning;
CREATE EXTENSION vector_embed CASCADE;
RESET client_min_messages;
SELECT octet_length('дождь идёт') AS bytes, embed('дождь идёт')::text = :'russian' AS same,
       embed_query('дождь идёт')::text = :'russian_query' AS same_query,
       vector_embed.token_count('дождь идёт') = :russian_tokens AS same_count;
CREATE TABLE "книги" ("номер" integer PRIMARY KEY, "текст" text, "вектор" vector(384));
INSERT INTO "книги" SELECT i, CASE i % 3 WHEN 0 THEN 'дождь идёт' WHEN 1 THEN 'снег ' || i END FROM generate_series(1, 40) i;
-- In batches, one by one, in an array.
UPDATE "книги" SET "вектор" = embed("текст");
SELECT count(*), bool_and("вектор"::text = :'russian') AS same FROM "книги" WHERE "номер" % 3 = 0;
SELECT count(*) FROM "книги" WHERE "текст" = 'дождь идёт' AND embed("текст")::text = :'russian';
SELECT array_length(v, 1), v[3]::text = :'russian' AS same, v[2] IS NULL FROM (SELECT embed(array_agg("текст" ORDER BY "номер")) AS v FROM "книги") AS called;
SELECT vector_embed.attach('"книги"', 'вектор', '{текст}', timing => 'statement');
INSERT INTO "книги" VALUES (50, 'дождь идёт');
SELECT "вектор"::text = :'russian' AS same FROM "книги" WHERE "номер" = 50;
SELECT relation, embedding, columns, triggers FROM vector_embed.attachments;
-- Messages.
SELECT vector_embed.attach('"книги"', 'вектор', '{нет}');
\echo :SQLSTATE
SELECT embed('x', 'модель');
SET vector_embed.default_model = 'модель';
SELECT embed('x');
RESET vector_embed.default_model;
SET vector_embed.overlong_text = 'error';
SELECT embed(ARRAY['снег', repeat('дождь ', 300)]);
RESET vector_embed.overlong_text;

-- Japanese: two bytes a character, and no blanks.
\c regress_embed_euc_jp
SET client_encoding = 'UTF8';
SET client_min_messages = warning;
CREATE EXTENSION vector_embed CASCADE;
RESET client_min_messages;
SELECT octet_length('雨が降る') AS bytes, embed('雨が降る')::text = :'japanese' AS same,
       embed_query('雨が降る')::text = :'japanese_query' AS same_query,
       vector_embed.token_count('雨が降る') = :japanese_tokens AS same_count;
CREATE TABLE "本" ("番号" integer PRIMARY KEY, "本文" text, "札" vector(384));
INSERT INTO "本" VALUES (1, '雨が降る'), (2, NULL), (3, '猫');
UPDATE "本" SET "札" = embed("本文");
SELECT "番号", "札"::text = :'japanese' AS same FROM "本" ORDER BY 1;
SELECT vector_embed.attach('"本"', '札', '{本文}');
INSERT INTO "本" VALUES (4, '雨が降る') RETURNING "札"::text = :'japanese' AS same;
SELECT vector_embed.attach('"本"', '札', '{無}');
\echo :SQLSTATE
-- Errors of the server and of users' functions keep their characters and codes, where they pass the extension.
CREATE FUNCTION "失敗"(text) RETURNS text LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION '失敗した: %', $1 USING ERRCODE = 'P0042', DETAIL = '詳細', HINT = '助言'; END $$;
CREATE VIEW "眺め" AS SELECT "番号", "失敗"("本文") AS "本文" FROM "本";
SELECT embed("失敗"("本文")) FROM "本";
SELECT * FROM vector_embed.checksum('"眺め"');
\echo :SQLSTATE
SELECT * FROM vector_embed.diff('"眺め"', '"眺め"', '{番号}');
DO $$ BEGIN
    PERFORM vector_embed.checksum('"眺め"');
EXCEPTION WHEN SQLSTATE 'P0042' THEN
    RAISE NOTICE 'caught: %', SQLERRM;
    BEGIN
        PERFORM vector_embed.attach('"本"', '無', '{本文}');
    EXCEPTION WHEN undefined_column THEN RAISE NOTICE 'caught: %', SQLERRM;
    END;
END $$;
CREATE ROLE regress_embed_reader;
SET ROLE regress_embed_reader;
SELECT * FROM vector_embed.checksum('"本"');
SELECT vector_embed.detach('"本"', '札');
RESET ROLE;
DROP ROLE regress_embed_reader;
CREATE FUNCTION "何もしない"() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER "zzz後" BEFORE INSERT ON "本" FOR EACH ROW EXECUTE FUNCTION "何もしない"();
SELECT vector_embed.detach('"本"', '札');
SELECT vector_embed.attach('"本"', '札', '{本文}');
SELECT content, start_char, char_count, substr(text, start_char, char_count) = content AS same
FROM (VALUES ('雨が降る。猫がいる。')) AS texts (text), vector_embed.chunk(text, max_tokens => 8);
-- What a session's client_encoding is does not matter.
SET client_encoding = 'SJIS';
SELECT embed(convert_from('\x894a82aa8d7e82e9', 'SJIS'))::text = :'japanese' AS same;
SET client_encoding = 'UTF8';

-- SQL_ASCII promises nothing of its bytes: UTF-8 is taken, anything else refused.
\c regress_embed_ascii
SET client_encoding = 'UTF8';
SET client_min_messages = warning;
CREATE EXTENSION vector_embed CASCADE;
RESET client_min_messages;
SELECT embed('grün')::text = :'in_utf8' AS same;
SELECT embed(E'gr\xfcn');
\echo :SQLSTATE
SELECT embed(ARRAY['fine', E'gr\xfcn']);
SELECT vector_embed.token_count(E'gr\xfcn');
SELECT * FROM vector_embed.chunk(E'gr\xfcn');
CREATE TABLE notes (id integer PRIMARY KEY, "größe" text, embedding vector(384));
INSERT INTO notes VALUES (1, 'grün'), (2, E'gr\xfcn'), (3, 'blau');
UPDATE notes SET embedding = embed("größe");
\echo :SQLSTATE
SELECT vector_embed.attach('notes', 'embedding', '{größe}');
UPDATE notes SET "größe" = E'r\xf6t' WHERE id = 3;
INSERT INTO notes VALUES (4, E'gr\xfcn');
SELECT vector_embed.attach('notes', 'embedding', '{größe}', timing => 'statement');
INSERT INTO notes VALUES (5, 'fine'), (6, E'gr\xfcn');
\echo :SQLSTATE
SELECT vector_embed.attach('notes', 'embedding', '{größer}');
ALTER TABLE notes RENAME COLUMN "größe" TO "höhe";
INSERT INTO notes VALUES (7, 'fine');
SELECT count(*) FROM notes;
SELECT vector_dims(embed('hello'));
-- Its characters are bytes.
SELECT content, start_char, char_count, substr(text, start_char, char_count) = content AS same
FROM (VALUES ('Grüße aus Köln. Die Straße führt über die Brücke. Später gehen wir zurück.')) AS texts (text),
     vector_embed.chunk(text, max_tokens => 20);
CREATE TABLE "grün" AS SELECT 1 AS id, 'Grüße' AS "größe";
SELECT checksum = :'checksum_in_utf8' AS same FROM vector_embed.checksum('"grün"');
UPDATE "grün" SET "größe" = E'gr\xfcn';
SELECT checksum <> :'checksum_in_utf8' AS differs FROM vector_embed.checksum('"grün"');

\c contrib_regression
DROP DATABASE regress_embed_latin1;
DROP DATABASE regress_embed_ascii;
DROP DATABASE regress_embed_win1251;
DROP DATABASE regress_embed_euc_jp;
