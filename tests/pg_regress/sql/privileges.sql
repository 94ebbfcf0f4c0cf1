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
RESET ROLE;

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
