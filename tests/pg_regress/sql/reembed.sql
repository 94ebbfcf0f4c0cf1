-- Another model without downtime. That it is the same model here changes nothing of what is done.
\set SHOW_CONTEXT never
CREATE TABLE "My ""notes" (
    a text, "b c" integer, body text, "Emb" vector(384) NOT NULL, embedding halfvec(384), PRIMARY KEY (a, "b c"));
SELECT vector_embed.attach('"My ""notes"', 'Emb', '{body}');
SELECT vector_embed.attach('"My ""notes"', 'embedding', '{body}');
INSERT INTO "My ""notes" (a, "b c", body) SELECT 'k' || i % 3, i, 'Text ' || i FROM generate_series(1, 50) AS i;
CREATE INDEX ON "My ""notes" USING hnsw ("Emb" vector_cosine_ops) WITH (m = 8) WHERE a <> 'Emb';
CREATE INDEX half ON "My ""notes" USING hnsw (("Emb"::halfvec(384)) halfvec_l2_ops);
CREATE INDEX "Ivf" ON "My ""notes" USING ivfflat ("Emb" vector_ip_ops) WITH (lists = 1);
CREATE INDEX bits ON "My ""notes" USING hnsw ((binary_quantize("Emb")::bit(384)) bit_hamming_ops);
CREATE INDEX ON "My ""notes" USING hnsw (embedding halfvec_cosine_ops) WHERE a ~ E'embedding\\n''embedding';
COMMENT ON COLUMN "My ""notes"."Emb" IS 'the vector';
CREATE ROLE reader;
GRANT SELECT ("Emb"), UPDATE ("Emb") ON "My ""notes" TO reader WITH GRANT OPTION;
ALTER TABLE "My ""notes" ALTER "Emb" SET STORAGE EXTERNAL, ALTER "Emb" SET STATISTICS 50;
CREATE VIEW looks AS SELECT a, "Emb" FROM "My ""notes";

-- What cannot be.
SELECT vector_embed.reembed_indexes('"My ""notes"', 'Emb');
\echo :SQLSTATE
SELECT vector_embed.reembed_cancel('"My ""notes"', 'Emb');
\echo :SQLSTATE
CALL vector_embed.reembed_start('"My ""notes"', 'nothing', 'all-MiniLM-L6-v2');
\echo :SQLSTATE
CALL vector_embed.reembed_start('"My ""notes"', 'body', 'all-MiniLM-L6-v2');
\echo :SQLSTATE
CALL vector_embed.reembed_start('"My ""notes"', 'Emb', 'no-model');
\echo :SQLSTATE
BEGIN;
CALL vector_embed.reembed_start('"My ""notes"', 'Emb', 'all-MiniLM-L6-v2');
\echo :SQLSTATE
ROLLBACK;
SET ROLE reader;
CALL vector_embed.reembed_start('"My ""notes"', 'Emb', 'all-MiniLM-L6-v2');
\echo :SQLSTATE
RESET ROLE;

-- The new column beside the old.
CALL vector_embed.reembed_start('"My ""notes"', 'Emb', 'all-MiniLM-L6-v2', batch => 20);
CALL vector_embed.reembed_start('"My ""notes"', 'Emb', 'all-MiniLM-L6-v2');
CALL vector_embed.reembed_start('"My ""notes"', 'Emb', 'other');
\echo :SQLSTATE
SELECT vector_embed.reembed_finish('"My ""notes"', 'Emb');
\echo :SQLSTATE
DROP VIEW looks;
SELECT vector_embed.reembed_finish('"My ""notes"', 'Emb');
\echo :SQLSTATE
\t
\a
SELECT vector_embed.reembed_indexes('"My ""notes"', 'Emb');
SELECT vector_embed.reembed_indexes('"My ""notes"', 'Emb') \gexec
\t
\a
SELECT vector_embed.reembed_indexes('"My ""notes"', 'Emb');
INSERT INTO "My ""notes" (a, "b c", body) VALUES ('new', 1, 'New text');
UPDATE "My ""notes" SET body = 'Another' WHERE a = 'k1';
SELECT count(*) FROM "My ""notes" WHERE "Emb_next" IS NULL OR "Emb" <-> "Emb_next" > 0.001;
ALTER TABLE "My ""notes" DISABLE TRIGGER USER;
UPDATE "My ""notes" SET "Emb_next" = "Emb_next";
ALTER TABLE "My ""notes" ENABLE TRIGGER USER;

-- The switch can be taken back with its transaction.
BEGIN;
SELECT vector_embed.reembed_finish('"My ""notes"', 'Emb');
ROLLBACK;
SELECT vector_embed.reembed_finish('"My ""notes"', 'Emb');
SELECT a.attname, a.attnotnull, a.attstorage, col_description(a.attrelid, a.attnum),
       has_column_privilege('reader', a.attrelid, a.attnum, 'SELECT WITH GRANT OPTION') AS granted
FROM pg_attribute a WHERE a.attrelid = '"My ""notes"'::regclass AND a.attname LIKE 'Emb%' ORDER BY a.attnum;
SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = '"My ""notes"'::regclass
ORDER BY indexrelid::regclass::text COLLATE "C";
SELECT conname FROM pg_constraint WHERE conrelid = '"My ""notes"'::regclass AND contype = 'c';
SELECT embedding, columns, model, timing, drifted, problem FROM vector_embed.attachments
WHERE relation = '"My ""notes"'::regclass ORDER BY embedding COLLATE "C";
INSERT INTO "My ""notes" (a, "b c", body) VALUES ('newer', 1, 'New text') RETURNING "Emb" IS NULL, "Emb_old" IS NULL;

-- An option drops the old column; another puts up with views; a cancel leaves nothing.
CALL vector_embed.reembed_start('"My ""notes"', 'embedding', 'all-MiniLM-L6-v2');
SELECT vector_embed.reembed_cancel('"My ""notes"', 'embedding');
SELECT attname FROM pg_attribute WHERE attrelid = '"My ""notes"'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY 1;
SELECT tgname FROM pg_trigger WHERE tgrelid = '"My ""notes"'::regclass ORDER BY 1;
CALL vector_embed.reembed_start('"My ""notes"', 'embedding', 'all-MiniLM-L6-v2');
\t
\a
SELECT vector_embed.reembed_indexes('"My ""notes"', 'embedding');
SELECT vector_embed.reembed_indexes('"My ""notes"', 'embedding') \gexec
\t
\a
CREATE VIEW looks AS SELECT embedding FROM "My ""notes";
SELECT vector_embed.reembed_finish('"My ""notes"', 'embedding', keep_dependents => true);
SELECT pg_get_viewdef('looks') ~ 'embedding_old AS embedding' AS has_the_old_one;
DROP VIEW looks;
ALTER TABLE "My ""notes" DROP embedding_old;
CALL vector_embed.reembed_start('"My ""notes"', 'embedding', 'all-MiniLM-L6-v2');
\t
\a
SELECT vector_embed.reembed_indexes('"My ""notes"', 'embedding') \gexec
\t
\a
SET session_replication_role = replica;
UPDATE "My ""notes" SET embedding_next = NULL WHERE a = 'new';
RESET session_replication_role;
SELECT vector_embed.reembed_finish('"My ""notes"', 'embedding', drop_old => true);
\echo :SQLSTATE
SELECT vector_embed.reembed_finish('"My ""notes"', 'embedding', drop_old => true, allow_missing => true);
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = '"My ""notes"'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY 1;

-- Rows that tell their model.
CREATE TABLE told (id integer PRIMARY KEY, body text, made_by text, embedding vector(384));
SELECT vector_embed.attach('told', 'embedding', '{body}', provenance => 'made_by');
CALL vector_embed.reembed_start('told', 'embedding', 'all-MiniLM-L6-v2');
\echo :SQLSTATE

-- Chunks: the table that has them is named, and the triggers of the documents follow.
CREATE TABLE docs (id integer PRIMARY KEY, body text);
SELECT vector_embed.attach_chunks('docs', 'body', 'docs_chunks', max_tokens => 20);
INSERT INTO docs SELECT i, repeat('A sentence about the harbour. ', 10) FROM generate_series(1, 5) AS i;
CREATE INDEX ON docs_chunks USING hnsw (embedding vector_cosine_ops);
CALL vector_embed.reembed_start('docs_chunks', 'embedding', 'all-MiniLM-L6-v2');
INSERT INTO docs VALUES (6, 'Between the two.');
\t
\a
SELECT vector_embed.reembed_indexes('docs_chunks', 'embedding') \gexec
\t
\a
SELECT vector_embed.reembed_finish('docs_chunks', 'embedding', drop_old => true);
INSERT INTO docs VALUES (7, 'Something new.');
SELECT count(*), count(embedding) FROM docs_chunks;
SELECT count(*) FROM docs_chunks WHERE 1 - (embedding <=> embed(content)) < 0.999;
SELECT relation, embedding, columns, model, timing, drifted, problem, chunk_table FROM vector_embed.attachments
WHERE relation = 'docs'::regclass;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'docs_chunks'::regclass AND NOT tgisinternal;

-- What would get lost: defaults, domains, and what partitions have for themselves; comments of indexes do not.
CREATE DOMAIN meaning AS vector(384);
CREATE TABLE plain (id integer PRIMARY KEY, body text, embedding meaning DEFAULT array_fill(1, ARRAY[384])::vector);
SELECT vector_embed.attach('plain', 'embedding', '{body}');
CREATE UNIQUE INDEX plain_once ON plain (body) WHERE embedding IS NOT NULL;
COMMENT ON INDEX plain_once IS 'no text twice';
CALL vector_embed.reembed_start('plain', 'embedding', 'all-MiniLM-L6-v2');
CREATE INDEX plain_twice ON plain (body) WHERE embedding_next IS NOT NULL;
\t
\a
SELECT vector_embed.reembed_indexes('plain', 'embedding');
SELECT vector_embed.reembed_indexes('plain', 'embedding') \gexec
\t
\a
SELECT vector_embed.reembed_finish('plain', 'embedding');
\echo :SQLSTATE
SELECT vector_embed.reembed_finish('plain', 'embedding', keep_dependents => true);
SELECT obj_description(indexrelid, 'pg_class'), indisunique FROM pg_index WHERE indexrelid = 'plain_once'::regclass;
CREATE TABLE parts (id integer, part integer, body text, embedding vector(384), PRIMARY KEY (id, part))
    PARTITION BY LIST (part);
CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1);
SELECT vector_embed.attach('parts', 'embedding', '{body}');
INSERT INTO parts SELECT i, 1, 'text ' || i FROM generate_series(1, 5) AS i;
CREATE INDEX parts_nearest ON parts USING hnsw (embedding vector_cosine_ops);
CREATE INDEX part_1_own ON part_1 USING hnsw (embedding vector_l2_ops);
CREATE VIEW part_1_looks AS SELECT id, embedding FROM part_1;
GRANT SELECT (embedding) ON part_1 TO reader;
CALL vector_embed.reembed_start('parts', 'embedding', 'all-MiniLM-L6-v2');
\t
\a
SELECT vector_embed.reembed_indexes('parts', 'embedding') \gexec
\t
\a
SELECT vector_embed.reembed_finish('parts', 'embedding');
\echo :SQLSTATE
DROP VIEW part_1_looks;
DROP INDEX part_1_own;
REVOKE SELECT (embedding) ON part_1 FROM reader;
SELECT vector_embed.reembed_finish('parts', 'embedding', drop_old => true);
SELECT count(*) FROM parts WHERE embedding IS NULL;

DROP TABLE "My ""notes", told, docs, docs_chunks, plain, parts;
DROP DOMAIN meaning;
DROP ROLE reader;
