-- Plain SQL computes its calls in batches. What comes out is what row by row would, for which there is a twin of the
-- function that the planner does not know.
\set SHOW_CONTEXT never
CREATE FUNCTION twin(text) RETURNS vector AS '$libdir/vector_embed', 'embed_wrapper' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 10000;
CREATE FUNCTION same(vector, vector) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 IS NOT DISTINCT FROM $2 OR 1 - ($1 <=> $2) >= 0.999999';
CREATE FUNCTION requests() RETURNS bigint LANGUAGE sql AS 'SELECT requests FROM vector_embed.stat_engine';
CREATE TABLE docs (id integer PRIMARY KEY, cat integer, title text, body text, embedding vector(384));
INSERT INTO docs SELECT i, i % 5, 'title ' || i % 50, CASE WHEN i % 11 > 0 THEN 'body of document ' || i END FROM generate_series(1, 700) i;
ANALYZE docs;

-- The first statement of a session has loaded no library when it begins to be planned. It is batched all the same.
\c
\set SHOW_CONTEXT never
EXPLAIN (COSTS OFF, VERBOSE) UPDATE docs SET embedding = embed(body);
SELECT requests() AS before \gset
UPDATE docs SET embedding = embed(body);
SELECT requests() - :before AS requests;
SELECT count(*) AS wrong FROM docs WHERE NOT same(embedding, twin(body));

-- Equal texts are computed once, NULLs not at all.
SELECT count(embed(title)) FROM docs;
CREATE FUNCTION actually(text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF) ' || $1 LOOP
        IF line ~ '(Batches|Rows|Distinct Texts|Cache Hits|Engine Time):' THEN
            RETURN NEXT regexp_replace(trim(line), '[0-9.]+ ms', '(time)');
        END IF;
    END LOOP;
END $$;
SELECT actually('UPDATE docs SET embedding = embed(title)');
SELECT actually('SELECT embed(title), embed(body) FROM (SELECT * FROM docs ORDER BY id) docs');

-- UPDATE … FROM, INSERT … SELECT, CREATE TABLE AS, COPY.
UPDATE docs d SET embedding = embed(e.title) FROM docs e WHERE e.id = d.id + 1 AND d.id < 100;
SELECT count(*) AS wrong FROM docs d JOIN docs e ON e.id = d.id + 1 WHERE d.id < 100 AND NOT same(d.embedding, twin(e.title));
CREATE TABLE copies AS SELECT id, embed(body) AS body, embed_query(title) AS title, embed(body, 'all-MiniLM-L6-v2') AS named FROM docs;
INSERT INTO copies SELECT id + 1000, embed(body), embed(title), embed(title, 'all-MiniLM-L6-v2') FROM docs WHERE id < 9;
SELECT count(*) AS wrong FROM copies c JOIN docs d ON c.id = d.id WHERE NOT (same(c.body, twin(d.body)) AND same(c.title, twin(d.title)) AND same(named, twin(d.body)));
SELECT count(*) AS wrong FROM copies c JOIN docs d ON c.id = d.id + 1000 WHERE NOT (same(c.body, twin(d.body)) AND same(c.title, twin(d.title)) AND same(named, twin(d.title)));
DROP TABLE copies;

-- In expressions, aggregates, window functions, set operations, sort keys.
SELECT count(*) AS wrong FROM (
    SELECT embed(title) <=> embed(body) AS a, twin(title) <=> twin(body) AS b FROM docs OFFSET 0) s WHERE abs(a - b) > 1e-5 OR (a IS NULL) <> (b IS NULL);
EXPLAIN (COSTS OFF, VERBOSE) SELECT cat, avg(embed(body)) FROM docs GROUP BY cat;
SELECT count(*) AS wrong FROM (SELECT avg(embed(body)) AS a, avg(twin(body)) AS b FROM docs GROUP BY cat HAVING vector_dims(avg(embed(title))) > 1) s WHERE NOT same(a, b);
SELECT count(*) AS wrong FROM (SELECT avg(embed(body)) FILTER (WHERE id % 2 = 0) AS a, avg(twin(body)) FILTER (WHERE id % 2 = 0) AS b FROM docs GROUP BY cat) s WHERE NOT same(a, b);
SELECT count(*) AS wrong FROM (SELECT first_value(embed(body)) OVER w AS a, first_value(twin(body)) OVER w AS b FROM docs WINDOW w AS (PARTITION BY cat ORDER BY id)) s WHERE NOT same(a, b);
SELECT count(*) FROM (SELECT DISTINCT embed(title) FROM docs) s;
SELECT count(*) FROM (SELECT embed(title) FROM docs UNION SELECT embed(body) FROM docs WHERE id < 9) s;
SELECT count(*) FROM (SELECT unnest(ARRAY[embed(title), embed(body)]) FROM docs) s;
SELECT array_agg(id) FROM (SELECT id FROM docs ORDER BY embed(title) <=> embed(body), id LIMIT 4) s;
SELECT array_agg(id) FROM (SELECT id FROM docs ORDER BY twin(title) <=> twin(body), id LIMIT 4) s;

-- No row is computed that a LIMIT does not want.
EXPLAIN (COSTS OFF) SELECT embed(title) FROM docs ORDER BY id DESC LIMIT 3;
SELECT texts + cache_hits AS before FROM vector_embed.stat_engine \gset
SELECT vector_dims(embed(title)) FROM docs ORDER BY id DESC LIMIT 3;
SELECT texts + cache_hits - :before AS texts FROM vector_embed.stat_engine;

EXPLAIN (COSTS OFF) SELECT embed(left(embed(title)::text, 9)) FROM docs ORDER BY id DESC LIMIT 3;

-- CASE and COALESCE compute what they need, and nothing is evaluated that they would not.
UPDATE docs SET embedding = NULL WHERE id % 10 = 0;
SELECT actually('UPDATE docs SET embedding = coalesce(embedding, embed(title))');
SELECT count(*) AS wrong FROM (
    SELECT CASE WHEN id % 3 = 0 THEN embed(body) WHEN id % 3 = 1 THEN embed(title) END AS a,
           CASE WHEN id % 3 = 0 THEN twin(body) WHEN id % 3 = 1 THEN twin(title) END AS b FROM docs OFFSET 0) s WHERE NOT same(a, b);
SELECT count(*) AS wrong FROM (
    SELECT CASE WHEN id = 5 THEN embed(title) ELSE embed((10 / (id - 5))::text) END AS a,
           CASE WHEN id = 5 THEN twin(title) ELSE twin((10 / (id - 5))::text) END AS b FROM docs OFFSET 0) s WHERE NOT same(a, b);
SELECT count(*) AS wrong FROM (
    SELECT coalesce(CASE WHEN id % 3 = 0 THEN embed(body) END, embed(title)) AS a,
           coalesce(CASE WHEN id % 3 = 0 THEN twin(body) END, twin(title)) AS b FROM docs OFFSET 0) s WHERE NOT same(a, b);

-- VALUES lists.
CREATE TABLE listed (id integer, embedding vector(384));
EXPLAIN (COSTS OFF, VERBOSE) INSERT INTO listed VALUES (1, embed('one')), (2, embed('two')), (3, embed(NULL));
SELECT requests() AS before \gset
INSERT INTO listed VALUES (1, embed('one')), (2, embed('two')), (3, embed(NULL));
PREPARE insert_two(text, text) AS INSERT INTO listed VALUES (4, embed($1)), (5, embed($2));
EXECUTE insert_two('four', 'five');
SELECT requests() - :before AS requests;
SELECT id, same(embedding, twin((ARRAY['one', 'two', NULL, 'four', 'five'])[id])) FROM listed ORDER BY id;
SELECT column1, same(coalesce(column2, twin('c')), twin(CASE column1 WHEN 1 THEN 'a' ELSE 'b' END)) FROM (VALUES (1, embed('a')), (2, embed('b'))) v;
DROP TABLE listed;

-- Deep and wide expressions are planned, too: if need be, without batches. (LLVM takes its time for them.)
SET jit = off;
CREATE FUNCTION count_of(expression text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE result bigint;
BEGIN
    EXECUTE format('SELECT count(e) FROM (SELECT %s AS e FROM docs WHERE id > 690 OFFSET 0) s', expression) INTO result;
    RETURN result;
END $$;
SELECT count_of(string_agg(format('CASE WHEN id = %s THEN NULL ELSE ', i), '') || 'embed(title)' || repeat(' END', 2000)) FROM generate_series(1, 2000) i;
SELECT count_of(string_agg(format('CASE WHEN id = %s THEN embed(body) ELSE ', i), '') || 'NULL' || repeat(' END', 2000)) FROM generate_series(1, 2000) i;
SELECT count_of('CASE ' || string_agg(format('WHEN id = %s THEN embed(title)', i), ' ') || ' END') FROM generate_series(1, 2000) i;
SELECT count_of('coalesce(' || string_agg(format('CASE WHEN id = %s THEN embed(title) END', i), ', ') || ')') FROM generate_series(1, 2000) i;
SELECT count_of('embed(' || repeat('upper(', 2000) || 'title' || repeat(')', 2000) || ')');
DROP FUNCTION count_of;
RESET jit;

-- Subqueries, rescans, CTEs, views, inlined functions, prepared statements.
SELECT count(*) AS wrong FROM docs d, LATERAL (SELECT embed(c.title || d.id) AS a, twin(c.title || d.id) AS b FROM docs c WHERE c.cat = d.cat AND c.id < 20 OFFSET 0) s WHERE d.id < 6 AND NOT same(a, b);
SELECT id, (SELECT max(vector_dims(embed(c.title))) FROM docs c WHERE c.cat = d.cat), cardinality(ARRAY(SELECT embed(c.title) FROM docs c WHERE c.id BETWEEN d.id AND d.id + 2)), EXISTS (SELECT embed(c.body) FROM docs c WHERE c.id = d.id) FROM docs d WHERE id < 3;
WITH texts AS MATERIALIZED (SELECT id, embed(body) AS a FROM docs) SELECT count(*) AS wrong FROM texts JOIN docs USING (id) WHERE NOT same(a, twin(body));
CREATE VIEW embedded AS SELECT id, body, embed(body) AS embedding FROM docs;
SELECT count(*) AS wrong FROM embedded WHERE NOT same(embedding, twin(body));
DROP VIEW embedded;
SET plan_cache_mode = force_generic_plan;
PREPARE suffixed(text) AS SELECT count(*) AS wrong FROM (SELECT embed(title || $1) AS a, twin(title || $1) AS b FROM docs OFFSET 0) s WHERE NOT same(a, b);
EXECUTE suffixed('!');
EXECUTE suffixed('?');
RESET plan_cache_mode;
DO $$
DECLARE wrong integer := 0; r record;
BEGIN
    FOR r IN SELECT embed(title) AS a, twin(title) AS b FROM docs LOOP wrong := wrong + (NOT same(r.a, r.b))::integer; END LOOP;
    RAISE NOTICE 'wrong: %', wrong;
END $$;

-- Partitions, also one whose columns have another order, and rows that move.
CREATE TABLE parts (id integer, k integer, body text, embedding vector(384)) PARTITION BY LIST (k);
CREATE TABLE parts_0 PARTITION OF parts FOR VALUES IN (0);
CREATE TABLE parts_1 (gone integer, embedding vector(384), body text, k integer, id integer);
ALTER TABLE parts_1 DROP gone;
ALTER TABLE parts ATTACH PARTITION parts_1 FOR VALUES IN (1);
CREATE TABLE parts_2 PARTITION OF parts DEFAULT;
INSERT INTO parts SELECT id, id % 4, title, embed(title) FROM docs;
UPDATE parts SET k = (k + 1) % 4, embedding = embed(body || k);
SELECT count(*), count(*) FILTER (WHERE NOT same(embedding, twin(body || (k + 3) % 4))) AS wrong FROM parts;
DROP TABLE parts;

-- Parallel plans have a node in each worker.
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
ALTER TABLE docs SET (parallel_workers = 2);
EXPLAIN (COSTS OFF) SELECT embed(title) FROM docs;
SELECT count(*) AS wrong FROM (SELECT embed(title) AS a, twin(title) AS b FROM docs OFFSET 0) s WHERE NOT same(a, b);
-- Below a LIMIT the workers sort, knowing how many rows are wanted, and the leader computes what is left.
EXPLAIN (COSTS OFF) SELECT embed(title), id FROM docs ORDER BY cat, id DESC LIMIT 3;
SELECT texts + cache_hits AS before FROM vector_embed.stat_engine \gset
SELECT same(embed(title), twin(title)), id FROM docs ORDER BY cat, id DESC LIMIT 3;
SELECT texts + cache_hits - :before AS texts FROM vector_embed.stat_engine;
ALTER TABLE docs RESET (parallel_workers);
RESET ALL;
-- No node comes between a LIMIT and a Sort that it bounds.
EXPLAIN (COSTS OFF) SELECT vector_dims(e), id + 1 FROM (SELECT id, embed(title) AS e FROM docs ORDER BY cat, id) s LIMIT 3;

-- Left alone: volatile functions of users, which might see what was written; altered functions; cursors; joins that go
-- back; MERGE's actions, RETURNING and ON CONFLICT, whose calls are not those of a plan below.
CREATE FUNCTION watches(text) RETURNS text LANGUAGE plpgsql VOLATILE AS 'BEGIN RETURN $1; END';
EXPLAIN (COSTS OFF) SELECT embed(watches(title)) FROM docs;
EXPLAIN (COSTS OFF) SELECT embed(title) FROM docs WHERE watches(title) IS NOT NULL;
SELECT count(*) FILTER (WHERE a = b) AS equal FROM (SELECT embed(random()::text) AS a, embed(random()::text) AS b FROM docs LIMIT 9) s;
ALTER FUNCTION embed(text) SET work_mem = '1MB';
EXPLAIN (COSTS OFF) SELECT embed(title) FROM docs;
ALTER FUNCTION embed(text) RESET work_mem;
ALTER FUNCTION embed(text) SECURITY DEFINER;
EXPLAIN (COSTS OFF) SELECT embed(title) FROM docs;
ALTER FUNCTION embed(text) SECURITY INVOKER;
SET vector_embed.batch_planning = off;
EXPLAIN (COSTS OFF) SELECT embed(title) FROM docs;
RESET vector_embed.batch_planning;
BEGIN;
DECLARE forth SCROLL CURSOR FOR SELECT id, vector_dims(embed(title)) FROM docs ORDER BY id;
FETCH 2 FROM forth;
FETCH BACKWARD 1 FROM forth;
DECLARE here NO SCROLL CURSOR FOR SELECT id, vector_dims(embed(title)) FROM docs WHERE id < 9;
FETCH 2 FROM here;
UPDATE docs SET cat = cat WHERE CURRENT OF here RETURNING id;
ROLLBACK;
SET enable_hashjoin = off;
SET enable_nestloop = off;
SET enable_sort = off;
SET enable_material = off;
CREATE INDEX docs_cat ON docs (cat);
SELECT count(*) FROM docs a JOIN (SELECT cat, embed(title) AS e FROM docs ORDER BY cat OFFSET 0) b ON a.cat = b.cat WHERE a.id < 20;
RESET ALL;
WITH changed AS (UPDATE docs SET embedding = embed(body) WHERE id < 6 RETURNING id, embed(title) AS a, title)
    SELECT count(*) AS wrong FROM changed WHERE NOT same(a, twin(title));
MERGE INTO docs USING (SELECT id, 'merged ' || id AS body, embed('merged ' || id) AS e FROM docs WHERE id < 9) s ON docs.id = s.id
    WHEN MATCHED AND s.id < 5 THEN UPDATE SET body = s.body, embedding = s.e WHEN MATCHED THEN UPDATE SET body = s.body, embedding = embed(s.body);
INSERT INTO docs SELECT id, cat, title, 'again ' || id, embed('again ' || id) FROM docs WHERE id < 9 ON CONFLICT (id) DO UPDATE SET body = excluded.body, embedding = excluded.embedding;
SELECT count(*) AS wrong FROM docs WHERE id < 9 AND NOT same(embedding, twin(body));
SELECT id, vector_dims(embed(body)) FROM docs WHERE id < 3 ORDER BY id FOR UPDATE;

-- What is evaluated where and how often is as without batches: each of these was once wrong.
SELECT rn, i8 FROM (SELECT vector_dims(embed(title)) AS d, title, row_number() OVER (ORDER BY id) AS rn, 700 - id::bigint AS i8 FROM docs) s WHERE rn <= 3;
CREATE TABLE serials (id serial, n integer, embedding vector(384));
INSERT INTO serials (embedding) VALUES (embed('a')), (embed('b')), (embed('c')) RETURNING id, currval('serials_id_seq') AS current;
INSERT INTO serials (embedding) SELECT embed(title) FROM docs WHERE id < 3 RETURNING id, currval('serials_id_seq') AS current;
CREATE FUNCTION seen() RETURNS integer LANGUAGE sql VOLATILE AS 'SELECT count(n)::integer FROM serials';
INSERT INTO serials (embedding, n) VALUES (embed('a'), seen()), (embed('b'), seen()), (embed('c'), seen()) RETURNING n;
DROP FUNCTION seen;
DROP TABLE serials;
CREATE SEQUENCE counted;
SELECT count(*) AS wrong FROM (SELECT nextval('counted'), embed('at ' || currval('counted')) AS a, twin('at ' || currval('counted')) AS b FROM docs WHERE id < 9 OFFSET 0) s WHERE NOT same(a, b);
DROP SEQUENCE counted;
CREATE TABLE arrays (id integer, e vector[], nothing boolean);
INSERT INTO arrays VALUES (1, ARRAY[embed('a')], embed('a') IS NULL), (2, NULL, NULL);
SELECT id, e IS NULL AS e, nothing FROM arrays ORDER BY id;
DROP TABLE arrays;
CREATE TYPE pair AS (a integer, b integer);
CREATE TABLE pairs (t text, p pair[]);
INSERT INTO pairs VALUES ('x', ARRAY[(1, 2)::pair]);
UPDATE pairs SET p[vector_dims(embed(t)) - 383].a = 7 RETURNING p;
DROP TABLE pairs;
DROP TYPE pair;
SELECT count(DISTINCT v::text) > 1 AS different FROM (SELECT unnest(ARRAY[embed(random()::text), embed(random()::text)]) AS v FROM docs WHERE id = 1) s;
SELECT count(*) FROM (SELECT title, percentile_disc(vector_dims(embed(title)) / 1000.0) WITHIN GROUP (ORDER BY id) AS p FROM docs WHERE id < 3 GROUP BY ROLLUP (title)) s WHERE p IS NULL;
SELECT count(CASE WHEN id < 0 THEN embed(title) <=> (SELECT embedding FROM docs) ELSE 0 END) FROM docs;
SELECT count(coalesce(CASE WHEN id % 2 = 0 THEN (array_fill(NULL::integer, ARRAY[3]))[vector_dims(embed(title)) - 383] END, 1)) FROM docs;

-- An error names the row, and nothing is left over.
UPDATE docs SET body = repeat('too long ', 400) WHERE id = 300;
SET vector_embed.overlong_text = error;
SELECT count(embed(body)) FROM (SELECT body FROM docs WHERE id > 290 ORDER BY id OFFSET 0) s;
\echo :SQLSTATE
-- So does one that is found before the engine is asked. Rows are counted anew with each scan.
SELECT count(e) FROM generate_series(1, 3) g, LATERAL (SELECT embed(title, CASE WHEN g = 3 AND id = 4 THEN '../x' ELSE 'all-MiniLM-L6-v2' END) AS e FROM (SELECT * FROM docs WHERE id < 9 ORDER BY id OFFSET 0) s OFFSET g - g) s;
SELECT count(e) FROM generate_series(1, 3) g, LATERAL (SELECT embed(CASE WHEN g = 3 AND id = 300 THEN body ELSE title END) AS e FROM (SELECT * FROM docs WHERE id > 290 ORDER BY id OFFSET 0) s OFFSET g - g) s;
-- Who stops before the row at fault does not meet it.
SET enable_hashagg = off;
SELECT id, vector_dims(avg(embed(body))) FROM docs GROUP BY id ORDER BY id LIMIT 2;
RESET enable_hashagg;
SELECT id, lag(vector_dims(embed(body))) OVER (ORDER BY id) FROM docs ORDER BY id LIMIT 2;
SELECT count(*) FROM (SELECT first_value(embed(body)) OVER (PARTITION BY cat ORDER BY id) FROM docs OFFSET 0) s;
DO $$
BEGIN
    FOR i IN 1..30 LOOP
        BEGIN
            PERFORM embed(body) FROM docs;
        EXCEPTION WHEN string_data_right_truncation THEN NULL;
        END;
    END LOOP;
END $$;
RESET vector_embed.overlong_text;
SELECT connections FROM vector_embed.stat_engine;

-- Errors of others pass the node with all that they say.
CREATE FUNCTION refuses(text) RETURNS text LANGUAGE plpgsql STABLE AS
    'BEGIN RAISE check_violation USING MESSAGE = ''refused'', CONSTRAINT = ''taste''; END';
CREATE FUNCTION refuses(vector) RETURNS vector LANGUAGE plpgsql STABLE AS
    'BEGIN RAISE check_violation USING MESSAGE = ''refused'', CONSTRAINT = ''taste''; END';
DO $$
DECLARE name text; place text;
BEGIN
    PERFORM embed(refuses(title)) FROM docs;
EXCEPTION WHEN check_violation THEN
    GET STACKED DIAGNOSTICS name = CONSTRAINT_NAME, place = PG_EXCEPTION_CONTEXT;
    RAISE NOTICE '% at %', name, split_part(place, E'\n', 1);
END $$;
DO $$
DECLARE name text; place text;
BEGIN
    PERFORM refuses(embed(title)) FROM docs;
EXCEPTION WHEN check_violation THEN
    GET STACKED DIAGNOSTICS name = CONSTRAINT_NAME, place = PG_EXCEPTION_CONTEXT;
    RAISE NOTICE '% at %', name, split_part(place, E'\n', 1);
END $$;
DROP FUNCTION refuses(text), refuses(vector);

-- Who may not execute the function may not by way of a plan either.
CREATE ROLE regress_embed_reader;
GRANT SELECT ON docs TO regress_embed_reader;
REVOKE EXECUTE ON FUNCTION embed(text) FROM PUBLIC;
SET ROLE regress_embed_reader;
SELECT embed(title) FROM docs;
\echo :SQLSTATE
RESET ROLE;
GRANT EXECUTE ON FUNCTION embed(text) TO PUBLIC;
DROP TABLE docs;
DROP ROLE regress_embed_reader;
DROP FUNCTION twin, same, requests, actually, watches;
