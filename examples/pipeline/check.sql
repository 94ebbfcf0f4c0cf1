-- psql -v old=/path/to/pipeline.db -f check.sql: what will not fit, before anything is moved. Nothing is left behind.
\set ON_ERROR_STOP on
\set QUIET on
\pset null '(null)'
BEGIN;
CREATE SERVER pipeline_check FOREIGN DATA WRAPPER vector_embed_sqlite OPTIONS (path :'old');
SELECT * FROM vector_embed.sqlite_check('pipeline_check');
ROLLBACK;
