-- Everything in this database that belongs neither to the RAG manager nor to an extension: definitions, privileges and
-- rows. Run by a superuser with psql -XAt; what it prints before and after a migration must be the same.
\set ON_ERROR_STOP on
SET search_path = pg_catalog;
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;

\echo [schemas]
SELECT nspname, nspowner::regrole, nspacl FROM pg_namespace
WHERE nspname NOT LIKE 'pg\_%' AND nspname NOT IN ('information_schema', 'vector_embed') ORDER BY 1;

-- The relations of others, for the queries below.
SELECT coalesce(string_agg(c.oid::text, ',' ORDER BY c.oid), '0') AS relations FROM pg_class c
WHERE c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'pg_toast'::regnamespace)
  AND c.relowner <> 'rag_manager'::regrole
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') \gset

\echo [relations]
SELECT oid::regclass, relkind, relowner::regrole, relacl, reloptions, relrowsecurity, relpersistence, obj_description(oid, 'pg_class')
FROM pg_class WHERE oid IN (:relations) ORDER BY oid;
\echo [columns]
SELECT a.attrelid::regclass, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
       a.attacl, pg_get_expr(d.adbin, d.adrelid)
FROM pg_attribute a LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
WHERE a.attrelid IN (:relations) AND a.attnum > 0 ORDER BY a.attrelid, a.attnum;
\echo [constraints]
SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid IN (:relations) ORDER BY oid;
\echo [indexes]
SELECT pg_get_indexdef(indexrelid), indisvalid FROM pg_index WHERE indrelid IN (:relations) ORDER BY indexrelid;
\echo [triggers]
SELECT pg_get_triggerdef(oid), tgenabled FROM pg_trigger WHERE tgrelid IN (:relations) ORDER BY oid;
\echo [views]
SELECT oid::regclass, pg_get_viewdef(oid) FROM pg_class WHERE oid IN (:relations) AND relkind IN ('v', 'm') ORDER BY oid;
\echo [policies]
SELECT polrelid::regclass, polname FROM pg_policy WHERE polrelid IN (:relations) ORDER BY oid;
\echo [functions]
SELECT oid::regprocedure, proowner::regrole, proacl, prosrc FROM pg_proc p
WHERE pronamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) AND proowner <> 'rag_manager'::regrole
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
ORDER BY p.oid;
\echo [sequences]
SELECT schemaname, sequencename, last_value FROM pg_sequences
WHERE format('%I.%I', schemaname, sequencename)::regclass IN (:relations) ORDER BY 1, 2;
\echo [rows]
SELECT format('SELECT %L, * FROM vector_embed.checksum(%L)', oid::regclass, oid::regclass)
FROM pg_class WHERE oid IN (:relations) AND relkind IN ('r', 'p', 'm') ORDER BY oid \gexec
COMMIT;
