-- A user's five chunks nearest to a question: psql -v user=user-04 -v question='…' -f search.sql
\set ON_ERROR_STOP on
\set QUIET on
\pset footer off
\if :{?user}
\else
\set user user-04
\endif
\if :{?question}
\else
\set question 'When can I plant vegetables outside?'
\endif
\pset title :question

-- An index over all users' chunks finds the nearest of all, and of these there may be none of this user. So it goes on
-- until there are enough.
BEGIN;
SET LOCAL hnsw.iterative_scan = strict_order;
SELECT round((1 - distance)::numeric, 3) AS similarity, chunk_id, text
FROM (
    SELECT chunk_id, text, embedding <=> embed_query(:'question', 'all-MiniLM-L6-v2') AS distance
    FROM document_chunks
    WHERE user_id = :'user'
    ORDER BY distance
    LIMIT 5
) AS nearest
ORDER BY distance;
COMMIT;
