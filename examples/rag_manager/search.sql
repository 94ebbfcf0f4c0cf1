-- Who knows about something? psql -v question='…' -f search.sql
\set ON_ERROR_STOP on
\if :{?question}
\else
\set question 'who can help me plan a passage along the coast'
\endif
SELECT user_id, name, background, round((embedding <=> embed_query(:'question'))::numeric, 3) AS distance
FROM public.user_knowledge ORDER BY embedding <=> embed_query(:'question') LIMIT 5;
