-- verify tells whether vectors that came from elsewhere are the model's own.
\set SHOW_CONTEXT never
CREATE FUNCTION words(count integer, seed integer) RETURNS text LANGUAGE sql IMMUTABLE AS
    $$SELECT string_agg((ARRAY['river', 'stone', 'bread', 'winter', 'music', 'letter'])[1 + (i * i + seed) % 6], ' ' ORDER BY i)
      FROM generate_series(1, count) i$$;
SELECT vector_embed.token_count(words(126, 3));
CREATE TABLE moved (id integer PRIMARY KEY, title text, body text, embedding vector(384));
SELECT * FROM vector_embed.verify('moved', 'embedding', '{body}');

-- The model's own. Rows without a text or without a vector are not compared; texts of several columns are what a
-- trigger would embed.
INSERT INTO moved SELECT i, 'About ' || words(1, i), words(9 * i, i) FROM generate_series(1, 40) i;
UPDATE moved SET embedding = embed(body);
INSERT INTO moved VALUES (41, 'No text', NULL, embed('something')), (42, 'No vector', 'some text', NULL);
CREATE FUNCTION show(relation regclass, embedding text, columns text[], sample integer DEFAULT 100,
                     OUT verdict text, OUT advice text, OUT compared bigint, OUT agreeing bigint, OUT min float, OUT median float,
                     OUT max_tokens integer, OUT normalized boolean)
    LANGUAGE sql AS $$
    SELECT verdict, advice, compared, agreeing, round(min_cosine::numeric, 2), round(median_cosine::numeric, 2), max_tokens, normalized
    FROM vector_embed.verify($1, $2, $3, 'all-MiniLM-L6-v2', $4)$$;
\x on
SELECT * FROM show('moved', 'embedding', '{body}', 1000);
SELECT compared <= 10 AS is_sample, agreeing = compared AS all FROM show('moved', 'embedding', '{body}', 10);
ALTER TABLE moved ADD both_columns vector(384);
UPDATE moved SET both_columns = embed(title || E'\n\n' || body);
SELECT * FROM show('moved', 'both_columns', '{title,body}', 1000);

-- Of other lengths than 1: cosines are the same.
ALTER TABLE moved ADD scaled vector(384);
UPDATE moved SET scaled = (SELECT ARRAY(SELECT 3 * n FROM unnest(embedding::real[]) n)::vector) WHERE embedding IS NOT NULL;
SELECT * FROM show('moved', 'scaled', '{body}', 1000);

-- Cut at 128 tokens, as with the limit that all-MiniLM-L6-v2's tokenizer.json has.
ALTER TABLE moved ADD cut vector(384);
UPDATE moved SET cut = embed(array_to_string((string_to_array(body, ' '))[:126], ' '));
SELECT * FROM show('moved', 'cut', '{body}', 1000);

CREATE TABLE longer (id integer PRIMARY KEY, body text, embedding vector(384));
INSERT INTO longer SELECT i, words(20 * i, i) FROM generate_series(1, 5) i;
UPDATE longer SET embedding = embed(body);

-- Of other texts, in part and at all.
UPDATE longer SET body = 'A text that was written later.' WHERE id = 2;
SELECT verdict, advice, compared, agreeing, max_tokens FROM show('longer', 'embedding', '{body}');
UPDATE longer SET embedding = (SELECT vector_agg FROM (SELECT ARRAY(SELECT sin(i * longer.id) FROM generate_series(1, 384) i)::vector AS vector_agg) v);
SELECT verdict, advice, compared, agreeing, max_tokens, normalized FROM show('longer', 'embedding', '{body}');

-- Near, and not the same.
UPDATE longer SET embedding = (SELECT ARRAY(SELECT n + 0.01 * sin(place) FROM unnest(embed(body)::real[]) WITH ORDINALITY u (n, place))::vector);
SELECT verdict, advice, agreeing FROM show('longer', 'embedding', '{body}');

-- Of another length, as array, and as half-precision numbers; a view will do.
CREATE VIEW arrays AS SELECT id, body, embed(body)::real[] AS embedding, ARRAY[1, 2, NULL]::real[] AS short, embed(body)::halfvec(384) AS half FROM longer;
SELECT verdict, compared FROM show('arrays', 'embedding', '{body}');
SELECT verdict, compared FROM show('arrays', 'half', '{body}');
SELECT verdict, advice, compared FROM show('arrays', 'short', '{body}');
\x off

-- What cannot be.
CREATE VIEW words AS SELECT 'no vector' AS word;
SELECT verdict FROM show('moved', 'no_such', '{body}');
\echo :SQLSTATE
SELECT verdict FROM show('moved', 'embedding', '{}');
\echo :SQLSTATE
SELECT verdict FROM show('moved', 'embedding', '{body}', 0);
\echo :SQLSTATE
SELECT verdict FROM vector_embed.verify('moved', 'embedding', NULL);
\echo :SQLSTATE
SELECT verdict FROM vector_embed.verify('moved', 'embedding', '{body}', 'no-such-model');
\echo :SQLSTATE
SELECT verdict FROM show('words', 'word', '{word}');
\echo :SQLSTATE
CREATE ROLE regress_stranger;
SET ROLE regress_stranger;
SELECT verdict FROM show('moved', 'embedding', '{body}');
\echo :SQLSTATE
RESET ROLE;
DROP ROLE regress_stranger;
DROP VIEW arrays, words;
DROP TABLE moved, longer;
DROP FUNCTION show, words;
