-- Creating the extension, and what a DBA finds in the catalogs afterwards.
\set SHOW_CONTEXT never
CREATE EXTENSION vector_embed;                 -- pgvector comes first
\echo :SQLSTATE
CREATE EXTENSION vector_embed CASCADE;

-- It works at once: nothing to configure, nothing to restart.
SELECT vector_dims(embed('hello'));

-- Everything public carries a comment.
SELECT p.oid::regprocedure
FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'vector_embed'
WHERE obj_description(p.oid, 'pg_proc') IS NULL;
SELECT a.attrelid::regclass, a.attname
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'vector_embed'::regnamespace AND c.relkind IN ('v', 'r') AND a.attnum > 0
  AND col_description(c.oid, a.attnum) IS NULL;
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = 'vector_embed'::regnamespace AND c.relkind IN ('v', 'r') AND obj_description(c.oid, 'pg_class') IS NULL;

\a
SELECT p.oid::regprocedure AS function, provolatile, proisstrict, proparallel, prosecdef
FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'vector_embed'
ORDER BY p.oid::regprocedure::text COLLATE "C";
\a

SELECT name, context, vartype, boot_val, min_val, max_val FROM pg_settings WHERE name LIKE 'vector\_embed.%'
ORDER BY name COLLATE "C";

-- An impostor in the target schema does not become the result of embed().
CREATE SCHEMA elsewhere;
CREATE TYPE elsewhere.vector AS (x integer);
DROP EXTENSION vector_embed;
CREATE EXTENSION vector_embed SCHEMA elsewhere;
\echo :SQLSTATE
DROP TYPE elsewhere.vector;

-- Another schema than public works as well, for both extensions.
DROP EXTENSION vector;
CREATE SCHEMA types;
CREATE EXTENSION vector SCHEMA types;
CREATE EXTENSION vector_embed SCHEMA elsewhere;
SELECT pg_typeof(elsewhere.embed('hello')), pg_typeof(elsewhere.embed(ARRAY['hello']));
SET search_path = '';
SELECT types.vector_dims(elsewhere.embed('hello'));
RESET search_path;
DROP EXTENSION vector CASCADE;
DROP SCHEMA types;
DROP SCHEMA elsewhere;
CREATE EXTENSION vector_embed CASCADE;
