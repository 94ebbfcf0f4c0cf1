-- Many texts in one call.
\set SHOW_CONTEXT never
SELECT pg_typeof(embed(ARRAY['a', 'b'])), array_length(embed(ARRAY['a', 'b']), 1);
SELECT embed('{}'::text[]), embed(NULL::text[]) IS NULL;

-- NULL elements stay NULL, the shape and the bounds stay.
SELECT i, v IS NULL AS is_null FROM unnest(embed(ARRAY['a', NULL, 'b', NULL])) WITH ORDINALITY AS u (v, i);
SELECT array_dims(embed(ARRAY[['a', 'b'], ['c', NULL]])), array_dims(embed('[5:6]={a,b}'::text[]));
SELECT embed(ARRAY[NULL, NULL]::text[]);

-- Each element is the vector of its text, in whatever company it was computed.
CREATE TABLE words AS
SELECT i, repeat((ARRAY['lake', 'copper', 'invoice', 'violin'])[1 + i % 4] || ' ', 1 + i % 37) || i AS body
FROM generate_series(1, 1500) i;
WITH many AS (
    SELECT array_agg(body ORDER BY i) AS texts, embed(array_agg(body ORDER BY i)) AS vectors FROM words)
SELECT count(*), count(*) FILTER (WHERE vectors[i] <=> embed(texts[i]) < 0.000001) AS equal
FROM many, generate_series(1, 1500, 25) i;

-- More than a request holds, and texts of a megabyte.
SELECT array_length(embed(array_agg('x' || i)), 1) FROM generate_series(1, 5000) i;
SET vector_embed.overlong_text = 'truncate';
SET client_min_messages = error;
SELECT array_length(embed(array_agg(repeat('lorem ' || i || ' ', 100000))), 1) FROM generate_series(1, 3) i;
RESET client_min_messages;
RESET vector_embed.overlong_text;
DROP TABLE words;
