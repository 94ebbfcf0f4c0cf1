-- Episodes by meaning: psql -v question='…' -f search.sql
\set ON_ERROR_STOP on
\set QUIET on
\pset footer off
\if :{?question}
\else
\set question 'How do I mend a flat tyre?'
\endif
\pset title :question

-- The distance stands once, so that the index orders by it.
SELECT round((1 - distance)::numeric, 3) AS similarity, id, title
FROM (
    SELECT id, title, embedding <=> embed(:'question') AS distance
    FROM episodes
    ORDER BY distance
    LIMIT 5
) AS nearest
ORDER BY distance;
