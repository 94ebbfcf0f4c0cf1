-- The model sees the same characters whatever the server's encoding.
\set SHOW_CONTEXT never
SELECT embed('grün')::text AS in_utf8 \gset
CREATE TABLE "grün" AS SELECT 1 AS id, 'Grüße' AS "größe";
SELECT checksum AS checksum_in_utf8 FROM vector_embed.checksum('"grün"') \gset
DROP TABLE "grün";
CREATE DATABASE regress_embed_latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0;
CREATE DATABASE regress_embed_ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0;

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
