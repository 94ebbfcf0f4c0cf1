-- A call without variables is computed once per execution, however many rows there are.
CREATE TABLE notes (id integer PRIMARY KEY, body text, embedding vector(384));
INSERT INTO notes SELECT i, (ARRAY['tulip', 'hammer', 'glacier', 'sonata'])[1 + i % 4] || ' ' || i FROM generate_series(1, 400) i;
UPDATE notes SET embedding = embed(body);
ANALYZE notes;
CREATE FUNCTION requests() RETURNS bigint LANGUAGE sql AS 'SELECT requests FROM vector_embed.stat_engine';

-- Without an index every row is compared, but the question is embedded once: an InitPlan, which EXPLAIN shows.
EXPLAIN (COSTS OFF, VERBOSE) SELECT id FROM notes ORDER BY embedding <=> embed('flower') LIMIT 2;
SELECT requests() AS before \gset
SELECT id % 4 AS kind FROM notes ORDER BY embedding <=> embed('flower') LIMIT 2;
SELECT requests() - :before AS requests;
SELECT count(*) FROM notes WHERE embedding <=> embed('flower') < 0.9;
SELECT requests() - :before AS requests;

-- With an HNSW index the plan uses it.
CREATE INDEX ON notes USING hnsw (embedding vector_cosine_ops);
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT id FROM notes ORDER BY embedding <=> embed('flower') LIMIT 2;
EXPLAIN (COSTS OFF) SELECT id FROM notes ORDER BY embedding <=> embed_query('flower', 'all-MiniLM-L6-v2') LIMIT 2;
SELECT requests() AS before \gset
SELECT id % 4 AS kind FROM notes ORDER BY embedding <=> embed('flower') LIMIT 2;
SELECT requests() - :before AS requests;
DROP INDEX notes_embedding_idx;
RESET enable_seqscan;

-- A parameter is no variable of the row, in a custom plan and in a generic one.
PREPARE nearest(text) AS SELECT id % 4 AS kind FROM notes ORDER BY embedding <=> embed($1 || '!') LIMIT 1;
SET plan_cache_mode = force_custom_plan;
SELECT requests() AS before \gset
EXECUTE nearest('tool');
SET plan_cache_mode = force_generic_plan;
EXECUTE nearest('ice');
EXECUTE nearest('music');
SELECT requests() - :before AS requests;
RESET plan_cache_mode;

-- The workers of a parallel plan share the value.
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
EXPLAIN (COSTS OFF) SELECT count(*) FROM notes WHERE embedding <=> embed('flower') < 0.9;
SELECT requests() AS before \gset
SELECT count(*) > 0 AS found FROM notes WHERE embedding <=> embed('flower') < 0.9;
SELECT requests() - :before AS requests;

-- And each of them can embed its rows.
EXPLAIN (COSTS OFF) SELECT count(embed(body)) FROM notes;
SELECT count(embed(body)) FROM notes;
RESET max_parallel_workers_per_gather;
RESET min_parallel_table_scan_size;
RESET parallel_tuple_cost;
RESET parallel_setup_cost;

-- Wherever an expression may stand: views, subqueries, CTEs, EXISTS, joins, CASE, UPDATE, aggregates.
CREATE VIEW flowers AS SELECT id, embedding <=> embed('flower') AS distance FROM notes;
SELECT requests() AS before \gset
SELECT id % 4 AS kind FROM flowers ORDER BY distance LIMIT 1;
WITH question AS (SELECT embed('a frozen river') AS q)
SELECT id % 4 AS kind FROM notes, question ORDER BY embedding <=> q LIMIT 1;
SELECT EXISTS (SELECT FROM notes WHERE embedding <=> embed('flower') < 0.9);
SELECT id % 4 AS kind FROM notes a WHERE id = (SELECT id FROM notes b ORDER BY b.embedding <=> embed('flower') LIMIT 1);
SELECT round(min(embedding <=> embed('flower'))::numeric, 1) < 1 AS near FROM notes;
SELECT count(*) FROM notes a JOIN notes b ON a.id = b.id AND a.embedding <=> embed('flower') < 2;
SELECT count(CASE WHEN id > 0 THEN embedding <=> embed('flower') END) FROM notes;
SELECT count(*) FROM notes GROUP BY embedding <=> embed('flower') > 5;
SELECT count(*) FROM (SELECT embed('flower') FROM notes UNION ALL SELECT embed('ice') FROM notes) u;
SELECT sum((SELECT 1 - (n.embedding <=> embed('flower')))) > 0 AS near FROM notes n;
SELECT count(*) FROM notes n WHERE id < 9 OR EXISTS (SELECT FROM notes b WHERE b.id = n.id AND b.id < 0);
UPDATE notes SET embedding = embed('constant') WHERE id <= 3;
SELECT requests() - :before AS requests;

-- An EXISTS that the planner may turn into a hashed subquery or a join.
EXPLAIN (COSTS OFF)
SELECT n.id, EXISTS (SELECT FROM notes b WHERE b.id = n.id AND b.embedding <=> embed('flower') < 0.9) FROM notes n;
SELECT count(*) FROM (
    SELECT EXISTS (SELECT FROM notes b WHERE b.id = n.id AND b.embedding <=> embed('flower') < 9) AS e FROM notes n) u
WHERE e;
SELECT count(*) FROM notes n
WHERE n.id < 0 OR EXISTS (SELECT FROM notes b WHERE b.id = n.id AND b.embedding <=> embed('flower') < 9);
SELECT count(*) FROM notes n
WHERE EXISTS (SELECT FROM notes b WHERE b.id = n.id AND b.embedding <=> embed('flower') < 9);

-- What is not needed is not computed.
SELECT requests() AS before \gset
SELECT count(*) FROM notes WHERE id < 0 AND embedding <=> embed('flower') < 0.9;
SELECT requests() - :before AS requests;

-- An array of constants is no exception, nor is the estimate of how many rows it gives.
SELECT requests() AS before \gset
EXPLAIN (COSTS OFF) SELECT v FROM unnest(embed(ARRAY['one', 'two'])) v;
EXPLAIN (COSTS OFF) SELECT unnest(embed(ARRAY['one', 'two']));
SELECT requests() - :before AS requests;
SELECT count(*) FROM unnest(embed(ARRAY['one', 'two'])) v;
SELECT count(v) FROM (SELECT unnest(embed(ARRAY['one', 'two'])) AS v) u;
SELECT count(*) FROM notes WHERE embedding = ANY (embed(ARRAY['one', 'two', current_user::text]));
SELECT count(*) FROM (SELECT generate_series(1, 5), embed('one')) u;
SELECT requests() - :before AS requests;

-- EXPLAIN computes nothing, and a plain SELECT stays what it was.
SELECT requests() AS before \gset
EXPLAIN (COSTS OFF) SELECT * FROM notes WHERE embedding = embed('flower');
EXPLAIN (COSTS OFF, VERBOSE) SELECT vector_dims(embed('flower'));
EXPLAIN (COSTS OFF) INSERT INTO notes VALUES (1001, 'a', embed('a')), (1002, 'b', embed('b'));
SELECT requests() - :before AS requests;

-- What depends on the row is computed in batches, but for aggregates of what is volatile.
SELECT requests() AS before \gset
SELECT count(embed(body)) FROM notes WHERE id <= 10;
SELECT count(embed('x' || random())) FROM notes WHERE id <= 10;
SELECT requests() - :before AS requests;

DROP VIEW flowers;
DROP TABLE notes;
DROP FUNCTION requests();
