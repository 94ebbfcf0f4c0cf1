-- The five segments nearest to a question: psql -v question='…' -f search.sql
\set ON_ERROR_STOP on
\if :{?question}
\else
\set question 'snow on the mountains'
\endif
SELECT round((1 - distance)::numeric, 3) AS similarity, id, description
FROM (SELECT id, description, embedding <=> embed_query(:'question') AS distance
      FROM video_segments ORDER BY distance LIMIT 5) AS nearest
ORDER BY distance;
