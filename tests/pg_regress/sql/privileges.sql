-- Everybody may embed and look at the engine; what is inside is nobody's to call.
\set SHOW_CONTEXT never
CREATE ROLE regress_embed_analyst;
SET ROLE regress_embed_analyst;
SELECT vector_dims(embed('hello')), vector_embed.token_count('hello');
SELECT count(*) FROM vector_embed.stat_engine;
SELECT name FROM vector_embed.stat_models WHERE texts > 0;
SELECT name FROM vector_embed.models WHERE name = 'all-MiniLM-L6-v2';
SELECT has_function_privilege('vector_embed.embed_support(internal)', 'EXECUTE') AS may_call_support;
\set VERBOSITY sqlstate
SHOW vector_embed.model_path;
\set VERBOSITY default
SET vector_embed.default_model = 'all-MiniLM-L6-v2';
CREATE TABLE vector_embed.mine ();
-- What is not everybody's to call, what of the rest does not run as its caller, what everybody could change or use.
SELECT p.oid::regprocedure AS function
FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'vector_embed'
WHERE NOT has_function_privilege(p.oid, 'EXECUTE') ORDER BY p.oid::regprocedure::text COLLATE "C";
SELECT p.oid::regprocedure AS function
FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'vector_embed'
WHERE has_function_privilege(p.oid, 'EXECUTE') AND p.prosecdef;
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = 'vector_embed'::regnamespace AND c.relkind IN ('r', 'v') AND
      has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE');
SELECT fdwname FROM pg_foreign_data_wrapper
WHERE fdwname LIKE 'vector\_embed%' AND has_foreign_data_wrapper_privilege(oid, 'USAGE');
RESET ROLE;

-- Functions that administer ask for what their caller may do to the tables.
CREATE TABLE secrets (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text, embedding vector(384));
CREATE TABLE watched (id integer PRIMARY KEY, body text, embedding vector(384));
SELECT vector_embed.attach('watched', 'embedding', '{body}');
INSERT INTO watched VALUES (1, 'hello');
CREATE SERVER regress_embed_files FOREIGN DATA WRAPPER vector_embed_sqlite OPTIONS (path '/nowhere.db');
SET ROLE regress_embed_analyst;
\set VERBOSITY terse
SELECT vector_embed.attach('secrets', 'embedding', '{body}');
SELECT vector_embed.attach_chunks('secrets', 'body', 'regress_chunks', '{secret_id}');
SELECT vector_embed.detach('watched', 'embedding');
SELECT vector_embed.attachment_status('watched');
SELECT vector_embed.sync_identity('secrets');
SELECT * FROM vector_embed.verify('watched', 'embedding', '{body}');
SELECT * FROM vector_embed.checksum('secrets');
SELECT * FROM vector_embed.diff('secrets', 'watched');
SELECT vector_embed.sqlite_check('regress_embed_files');
CREATE SERVER mine FOREIGN DATA WRAPPER vector_embed_sqlite OPTIONS (path '/nowhere.db');
CREATE TRIGGER mine BEFORE INSERT ON secrets FOR EACH ROW EXECUTE FUNCTION vector_embed.embed_row('embedding', 'all-MiniLM-L6-v2', 'body');
SELECT * FROM vector_embed.attachments;
-- A name of a model is no path, whoever gives it.
SELECT embed('hello', '../models/all-MiniLM-L6-v2');
SELECT embed('hello', '/etc/passwd');
SELECT embed('hello', 'all-MiniLM-L6-v2/config.json');
\set VERBOSITY default
RESET ROLE;
DROP SERVER regress_embed_files;
DROP TABLE secrets, watched;

-- What an owner has forbidden himself is an error of his statement, in planning as in execution, and of nobody else.
CREATE ROLE regress_embed_self;
CREATE SCHEMA own AUTHORIZATION regress_embed_self;
SET ROLE regress_embed_self;
CREATE TABLE own.notes (id integer PRIMARY KEY, body text, embedding vector(384));
INSERT INTO own.notes VALUES (1, 'a text', NULL);
SELECT vector_embed.attach('own.notes', 'embedding', '{body}');
REVOKE SELECT ON own.notes FROM regress_embed_self;
CALL vector_embed.backfill('own.notes');
\echo :SQLSTATE
CREATE TABLE own.documents (id integer PRIMARY KEY, body text);
SELECT vector_embed.attach_chunks('own.documents', 'body', 'own.chunks', '{document_id}');
INSERT INTO own.documents VALUES (1, 'a text');
REVOKE SELECT ON own.chunks FROM regress_embed_self;
UPDATE own.documents SET body = 'another';
\echo :SQLSTATE
CREATE TABLE own.later (id integer PRIMARY KEY, body text, embedding vector(384));
SELECT vector_embed.attach('own.later', 'embedding', '{body}', timing => 'queue');
REVOKE SELECT ON own.later FROM regress_embed_self;
INSERT INTO own.later VALUES (1, 'a text');
\echo :SQLSTATE
SELECT relation, depth FROM vector_embed.queue;
GRANT SELECT ON own.notes TO regress_embed_self;
SET default_transaction_read_only = on;
CALL vector_embed.backfill('own.notes');
\echo :SQLSTATE
RESET default_transaction_read_only;
CALL vector_embed.backfill('own.notes');
RESET ROLE;
SET client_min_messages = warning;
DROP SCHEMA own CASCADE;
RESET client_min_messages;
DROP ROLE regress_embed_self;

-- A DBA may take it away.
REVOKE EXECUTE ON FUNCTION embed(text) FROM PUBLIC;
SET ROLE regress_embed_analyst;
SELECT embed('hello');
\echo :SQLSTATE
SELECT count(*) FROM pg_class ORDER BY count(*) + vector_dims(embed('hello'));
RESET ROLE;
GRANT EXECUTE ON FUNCTION embed(text) TO PUBLIC;

-- A search_path full of traps changes nothing.
CREATE SCHEMA traps;
CREATE FUNCTION traps.to_timestamp(double precision) RETURNS timestamptz LANGUAGE sql AS 'SELECT NULL::timestamptz';
CREATE FUNCTION traps.sprung(bigint, double precision) RETURNS double precision LANGUAGE plpgsql AS
    'BEGIN RAISE EXCEPTION ''trap''; END';
CREATE OPERATOR traps./ (LEFTARG = bigint, RIGHTARG = double precision, FUNCTION = traps.sprung);
SET search_path = traps, pg_catalog, public;
SELECT started_at IS NOT NULL FROM vector_embed.stat_engine;
SELECT vector_dims(embed('hello'));
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA traps CASCADE;
RESET client_min_messages;
DROP ROLE regress_embed_analyst;
