-- One text, one vector.
\set SHOW_CONTEXT never
SELECT pg_typeof(embed('hello')), vector_dims(embed('hello')), round(vector_norm(embed('hello'))::numeric, 4) AS norm;

-- Texts that mean the same are near, others far.
CREATE TABLE thoughts (id integer PRIMARY KEY, body text);
INSERT INTO thoughts VALUES
    (1, 'The cat sleeps on the warm windowsill.'),
    (2, 'A kitten is napping in the sun.'),
    (3, 'Backups are worth nothing until one was restored.'),
    (4, 'The train to the coast leaves at noon.');
SELECT id, round((1 - (embed(body) <=> embed('a dozing feline')))::numeric, 2) AS similarity
FROM thoughts ORDER BY embed(body) <=> embed('a dozing feline'), id;
SELECT id FROM thoughts ORDER BY embed(body) <=> embed('disaster recovery of databases') LIMIT 1;

-- The model named or the default one: the same vector. NULL is NULL, blank is a text like others.
SELECT embed('hello') = embed('hello', 'all-MiniLM-L6-v2') AS same;
SELECT embed(NULL) IS NULL, embed('hello', NULL) IS NULL, embed(NULL, NULL) IS NULL;
SELECT vector_dims(embed('')), embed('') = embed('   ') AS blank_is_empty;
SELECT embed_query('hello') = embed('hello') AS same_without_prompts;
SELECT vector_embed.embed_immutable('hello', 'all-MiniLM-L6-v2') = embed('hello') AS same;

-- varchar, char and domains are texts; a short text and one that was toasted give what they say.
SELECT embed('hello'::varchar(10)) = embed('hello'), embed('hello'::char(10)::text) = embed('hello');
CREATE TABLE long_texts (body text);
INSERT INTO long_texts VALUES (repeat('Rain falls on the roof. ', 10000));
SELECT pg_column_size(body) < length(body) AS compressed, embed(body) = embed(repeat('Rain falls on the roof. ', 10000)) AS same
FROM long_texts;

-- Tokens, special ones included.
SELECT vector_embed.token_count(''), vector_embed.token_count('hello world'),
       vector_embed.token_count('hello world', 'all-MiniLM-L6-v2'), vector_embed.token_count(NULL);
SELECT vector_embed.token_count(repeat('word ', 1000));

-- In a generated column and in an expression index the immutable form serves.
CREATE TABLE generated (
    body text,
    embedding vector(384) GENERATED ALWAYS AS (vector_embed.embed_immutable(body, 'all-MiniLM-L6-v2')) STORED);
INSERT INTO generated VALUES ('hello'), (NULL);
SELECT body, embedding = embed('hello') AS same FROM generated;
CREATE INDEX ON thoughts USING hnsw ((vector_embed.embed_immutable(body, 'all-MiniLM-L6-v2')::vector(384)) vector_cosine_ops);
CREATE INDEX ON thoughts USING hnsw ((embed(body)::vector(384)) vector_cosine_ops);      -- not promised
\echo :SQLSTATE

-- Prepared, in PL/pgSQL, in a transaction that may only read, after DISCARD ALL.
PREPARE like_this(text) AS SELECT id FROM thoughts ORDER BY embed(body) <=> embed($1) LIMIT 1;
EXECUTE like_this('cat');
EXECUTE like_this('railway');
DO $$
DECLARE
    word text;
    nearest integer;
BEGIN
    FOREACH word IN ARRAY ARRAY['cat', 'railway', 'restore'] LOOP
        SELECT id INTO nearest FROM thoughts ORDER BY embed(body) <=> embed(word) LIMIT 1;
        RAISE NOTICE '%: %', word, nearest;
    END LOOP;
END
$$;
BEGIN READ ONLY;
SELECT vector_dims(embed('hello'));
COMMIT;
DISCARD ALL;
SELECT vector_dims(embed('hello'));

-- Writing the vectors of a table.
ALTER TABLE thoughts ADD embedding vector(384);
UPDATE thoughts SET embedding = embed(body);
SELECT id, round((embedding <=> embed(body))::numeric, 4) AS distance FROM thoughts ORDER BY id;
INSERT INTO thoughts VALUES (5, 'Snow lies on the fields.', embed('Snow lies on the fields.')),
                            (6, 'Soup simmers on the stove.', embed('Soup simmers on the stove.'));
SELECT id FROM thoughts ORDER BY embedding <=> embed('winter') LIMIT 1;
ALTER TABLE thoughts ADD small vector(3);
UPDATE thoughts SET small = embed(body);
\echo :SQLSTATE

SELECT name, dimensions, max_tokens, pooling, normalized, document_prompt, query_prompt, format, bytes,
       length(hash) AS hash_length, loaded, problem
FROM vector_embed.models WHERE name = 'all-MiniLM-L6-v2';
SELECT pid > 0 AS pid, started_at < now() + '1 s' AS started_at, resident_bytes > cache_bytes AS resident_bytes,
       cache_bytes > 0 AS cache_bytes, threads > 0 AS threads, connections > 0 AS connections, requests > 0 AS requests,
       texts >= batches AS texts, cache_hits > 0 AS cache_hits, padded_tokens >= tokens AS tokens,
       compute_time > 0 AS compute_time
FROM vector_embed.stat_engine;
DROP TABLE thoughts, long_texts, generated;
