-- Reading an old SQLite file. scripts/regress makes it from data/legacy.sql.
\set SHOW_CONTEXT never
\set file `echo "$VECTOR_EMBED_FIXTURES/legacy.db"`
SET timezone = 'UTC';
CREATE SCHEMA legacy;

-- Options are checked when they are set.
CREATE SERVER old FOREIGN DATA WRAPPER vector_embed_sqlite;
\echo :SQLSTATE
CREATE SERVER old FOREIGN DATA WRAPPER vector_embed_sqlite OPTIONS (path 'legacy.db');
\echo :SQLSTATE
CREATE SERVER old FOREIGN DATA WRAPPER vector_embed_sqlite OPTIONS (path '/legacy.db', mode 'rw');
\echo :SQLSTATE
CREATE SERVER old FOREIGN DATA WRAPPER vector_embed_sqlite OPTIONS (path '/legacy.db', timezone 'Atlantis');
CREATE SERVER old FOREIGN DATA WRAPPER vector_embed_sqlite OPTIONS (path '/legacy.db', on_error 'skip');
CREATE SERVER old FOREIGN DATA WRAPPER vector_embed_sqlite OPTIONS (path '/legacy.db', invalid_text 'drop');
CREATE SERVER old FOREIGN DATA WRAPPER vector_embed_sqlite OPTIONS (path :'file', timezone 'Europe/Berlin');
CREATE USER MAPPING FOR PUBLIC SERVER old OPTIONS (password 'x');
\echo :SQLSTATE

-- Tables and views become foreign tables.
IMPORT FOREIGN SCHEMA public FROM SERVER old INTO legacy;
\echo :SQLSTATE
IMPORT FOREIGN SCHEMA main LIMIT TO (episodes, missing) FROM SERVER old INTO legacy;
\echo :SQLSTATE
IMPORT FOREIGN SCHEMA main FROM SERVER old INTO legacy OPTIONS (prefix 'x');
IMPORT FOREIGN SCHEMA main LIMIT TO (shows) FROM SERVER old INTO legacy;
IMPORT FOREIGN SCHEMA main EXCEPT (shows) FROM SERVER old INTO legacy;
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attfdwoptions
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'legacy'::regnamespace AND a.attnum > 0 ORDER BY c.relname COLLATE "C", a.attnum;
SELECT foreign_table_name, option_name, option_value FROM information_schema.foreign_table_options
WHERE foreign_table_schema = 'legacy' ORDER BY foreign_table_name COLLATE "C";

-- Values.
\x on
SELECT * FROM legacy.episodes;
SELECT * FROM legacy."Order";
\x off
SELECT * FROM legacy.computed;
SELECT * FROM legacy.processed;
SELECT s.name, count(*) FROM legacy.episodes e JOIN legacy.shows s ON s.id = e.show_id GROUP BY s.name ORDER BY 1;
SELECT tableoid::regclass, shows FROM legacy.shows;
SELECT count(*) FROM legacy.episodes;

-- What does not fit is an error that tells where.
SELECT n FROM legacy.dirty;
\echo :SQLSTATE
SELECT r FROM legacy.dirty;
SELECT b FROM legacy.dirty;
SELECT t FROM legacy.dirty;
\echo :SQLSTATE
SELECT at FROM legacy.dirty;
SELECT raw FROM legacy.dirty;
SELECT value FROM legacy.settings;
SELECT id FROM legacy.dirty; -- only what is read counts
-- All of it at once, before anything is moved.
SELECT * FROM vector_embed.sqlite_check('old');
SELECT * FROM vector_embed.sqlite_check('nothing');
\echo :SQLSTATE

-- Or it is NULL, and counted.
ALTER FOREIGN TABLE legacy.dirty OPTIONS (ADD on_error 'null');
SELECT * FROM legacy.dirty;
SELECT id FROM legacy.dirty WHERE n IS NULL;
ALTER FOREIGN TABLE legacy.dirty ALTER COLUMN n SET NOT NULL;
SELECT n FROM legacy.dirty;
\echo :SQLSTATE
ALTER FOREIGN TABLE legacy.dirty ALTER COLUMN n DROP NOT NULL;
ALTER FOREIGN TABLE legacy.dirty OPTIONS (ADD invalid_text 'strip');
SELECT t FROM legacy.dirty;
ALTER FOREIGN TABLE legacy.dirty OPTIONS (SET invalid_text 'hex');
SELECT t FROM legacy.dirty WHERE id IN (2, 3);

-- Conditions that mean the same there are applied there.
EXPLAIN (VERBOSE, COSTS OFF) SELECT title FROM legacy.episodes WHERE id = 2;
EXPLAIN (COSTS OFF) SELECT title FROM legacy.episodes WHERE id IN (1, 3) AND duration > 1 AND title = 'Fog' AND note IS NULL LIMIT 5;
EXPLAIN (COSTS OFF) SELECT title FROM legacy.episodes WHERE 10 > id AND title > 'A' AND is_processed AND created_at > now() LIMIT 5;
EXPLAIN (COSTS OFF) SELECT title FROM legacy.episodes ORDER BY title LIMIT 1;
EXPLAIN (COSTS OFF) SELECT 1 FROM legacy.episodes LIMIT 1;
SELECT id FROM legacy.episodes WHERE id IN (1, NULL, 3);
SELECT id FROM legacy.episodes WHERE duration > 'NaN';
SELECT id FROM legacy.episodes WHERE duration < 'NaN' LIMIT 1;
SELECT id FROM legacy.episodes WHERE title = 'Прилив';
SELECT id FROM legacy.episodes WHERE cover IS NOT NULL OFFSET 1 LIMIT 1;
PREPARE by_id (bigint) AS SELECT title FROM legacy.episodes WHERE id = $1;
SET plan_cache_mode = force_generic_plan;
EXECUTE by_id(1);
EXECUTE by_id(NULL);
RESET plan_cache_mode;
SELECT g, (SELECT title FROM legacy.episodes e WHERE e.id = g) FROM generate_series(1, 4) g;
SELECT g, e.title FROM generate_series(1, 2) g, LATERAL (SELECT title FROM legacy.episodes WHERE id >= g LIMIT 2) e;

-- Scans that are left, kept or read again.
BEGIN;
DECLARE kept SCROLL CURSOR WITH HOLD FOR SELECT id FROM legacy.episodes;
COMMIT;
FETCH 2 FROM kept;
FETCH BACKWARD 1 FROM kept;
CLOSE kept;
DO $$
BEGIN
    PERFORM n FROM legacy.dirty WHERE 1 / (id - 3) > 1;
EXCEPTION WHEN division_by_zero THEN
    RAISE NOTICE 'caught: %', SQLERRM;
END $$;
SELECT count(*) FROM legacy.dirty;

-- Columns can be declared otherwise.
CREATE FOREIGN TABLE legacy.other (
    number integer OPTIONS (column_name 'id'), title varchar(3), metadata jsonb, created_at timestamptz(0), aired date, price numeric(4, 1))
    SERVER old OPTIONS (table_name 'EPISODES');
SELECT number FROM legacy.other;
\echo :SQLSTATE
SELECT title FROM legacy.other;
SELECT metadata -> 'tags', created_at, aired, price FROM legacy.other;
CREATE FOREIGN TABLE legacy.cut (id integer, code varchar(3)) SERVER old OPTIONS (table_name 'codes');
SELECT id FROM legacy.cut WHERE code = 'abc'; -- as it is read, not as it is there
CREATE FOREIGN TABLE legacy.wrong (id inet, nothing text) SERVER old OPTIONS (table_name 'shows');
SELECT id FROM legacy.wrong;
\echo :SQLSTATE
CREATE FOREIGN TABLE legacy.words (word text) SERVER old;
\set VERBOSITY sqlstate
SELECT nothing FROM legacy.wrong; -- the message tells where the file is
SELECT * FROM legacy.words; -- a virtual table
\set VERBOSITY default

-- Nothing is written.
INSERT INTO legacy.shows VALUES (3, 'new');
UPDATE legacy.shows SET name = 'new';
DELETE FROM legacy.shows;
TRUNCATE legacy.shows;

-- Whoever names a file needs pg_read_server_files; readers need only be granted the table.
CREATE ROLE regress_reader;
GRANT USAGE ON SCHEMA legacy TO regress_reader;
GRANT USAGE ON FOREIGN DATA WRAPPER vector_embed_sqlite TO regress_reader;
SET ROLE regress_reader;
CREATE SERVER own FOREIGN DATA WRAPPER vector_embed_sqlite OPTIONS (path '/etc/passwd');
\echo :SQLSTATE
SELECT name FROM legacy.shows;
\echo :SQLSTATE
SELECT * FROM vector_embed.sqlite_check('old');
\echo :SQLSTATE
RESET ROLE;
-- What a view keeps back, errors do not tell.
CREATE VIEW legacy.some WITH (security_barrier) AS SELECT * FROM legacy.dirty WHERE id = 1;
CREATE FOREIGN TABLE legacy.strict (id bigint, n bigint) SERVER old OPTIONS (table_name 'dirty');
CREATE VIEW legacy.others AS SELECT n FROM legacy.strict WHERE mod(id, 2) = 1;
GRANT SELECT ON legacy.some, legacy.others TO regress_reader;
SET ROLE regress_reader;
SELECT n FROM legacy.some;
SELECT * FROM legacy.others;
\echo :SQLSTATE
RESET ROLE;
ALTER FOREIGN TABLE legacy.strict ALTER COLUMN n SET NOT NULL, OPTIONS (ADD on_error 'null');
SET ROLE regress_reader;
SELECT * FROM legacy.others;
RESET ROLE;
GRANT SELECT ON legacy.shows TO regress_reader;
GRANT pg_read_server_files TO regress_reader;
SET ROLE regress_reader;
SELECT name FROM legacy.shows;
CREATE SERVER own FOREIGN DATA WRAPPER vector_embed_sqlite OPTIONS (path '/etc/passwd');
RESET ROLE;
REVOKE pg_read_server_files FROM regress_reader;
SET ROLE regress_reader;
ALTER SERVER own OPTIONS (SET path '/etc/group');
\echo :SQLSTATE
RESET ROLE;

-- Files that are no databases.
IMPORT FOREIGN SCHEMA main FROM SERVER own INTO legacy;
\echo :SQLSTATE
ALTER SERVER own OPTIONS (SET path '/dev/null');
IMPORT FOREIGN SCHEMA main FROM SERVER own INTO legacy;
ALTER SERVER own OPTIONS (SET path '/');
IMPORT FOREIGN SCHEMA main FROM SERVER own INTO legacy;
ALTER SERVER own OPTIONS (SET path '/nowhere/at/all');
IMPORT FOREIGN SCHEMA main FROM SERVER own INTO legacy;

DROP SERVER own;
DROP OWNED BY regress_reader;
DROP ROLE regress_reader;
SET client_min_messages = warning;
DROP SCHEMA legacy CASCADE;
DROP SERVER old CASCADE;
