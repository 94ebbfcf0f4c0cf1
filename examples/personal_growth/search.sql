-- The five notes nearest to a question: psql -v question='…' -f search.sql
\set ON_ERROR_STOP on
\set QUIET on
\if :{?question}
\else
\set question 'how to keep a habit'
\endif
-- The index gives the nearest chunks; each note once, with its best one.
BEGIN;
SET LOCAL hnsw.ef_search = 100;
SELECT round((1 - distance)::numeric, 3) AS similarity, n.id, n.title, left(chunk, 60) AS chunk
FROM (SELECT DISTINCT ON (note_id) note_id, chunk, distance
      FROM (SELECT note_id, content AS chunk, embedding <=> embed_query(:'question', 'all-MiniLM-L6-v2') AS distance
            FROM note_embeddings ORDER BY distance LIMIT 100) AS nearest
      ORDER BY note_id, distance) AS best
JOIN notes n ON n.id = note_id
ORDER BY distance, n.id LIMIT 5;
COMMIT;
