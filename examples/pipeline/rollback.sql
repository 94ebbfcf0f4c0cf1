-- Back to the old application: psql -f rollback.sql writes back.sql, statements for SQLite that bring the old database
-- what was written here since the migration. Here nothing is changed. Stop the application first.
\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = error; -- migrate.sql has told what does not fit

-- Values as SQLite's SQL has them, and as the old application writes them.
CREATE FUNCTION pg_temp.literal(value text, kind regtype) RETURNS text LANGUAGE sql AS $$
    SELECT CASE
        WHEN value IS NULL THEN 'NULL'
        WHEN kind = 'boolean'::regtype THEN value::boolean::integer::text
        WHEN value IN ('Infinity', 'infinity') THEN '9e999'
        WHEN value IN ('-Infinity', '-infinity') THEN '-9e999'
        WHEN kind IN ('bigint', 'double precision') THEN value
        WHEN kind = 'timestamptz'::regtype
            THEN to_char(value::timestamptz AT TIME ZONE 'UTC', '''YYYY-MM-DD HH24:MI:SS.US''')
        ELSE '''' || replace(value, '''', '''''') || ''''
    END
$$;

-- One query for each table, parents first: rows that are only here, and values that are others here. A row that is only
-- in the old database may have been deleted here, or have come there since: that is for you to decide.
CREATE TEMPORARY TABLE queries AS
    SELECT format($query$
        SELECT CASE
            WHEN o.%1$I IS NULL THEN 'INSERT INTO %2$I (%3$s) VALUES (' || concat_ws(', ', %4$s) || ');'
            WHEN n.%1$I IS NULL THEN '-- only in the old database: %2$I ' || concat_ws(', ', %5$s)
            ELSE 'UPDATE %2$I SET ' || concat_ws(', ', %6$s) || ' WHERE ' || concat_ws(' AND ', %7$s) || ';' END
        FROM %8$s AS o FULL JOIN public.%2$I AS n ON (%9$s)
        WHERE o.%1$I IS NULL OR n.%1$I IS NULL OR (%10$s) IS DISTINCT FROM (%11$s)
    $query$,
        min(a.attname) FILTER (WHERE a.is_key), t.name,
        string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum),
        string_agg(format('pg_temp.literal(n.%I::text, %L)', a.attname, a.atttypid::regtype), ', ' ORDER BY a.attnum),
        string_agg(format('o.%I', a.attname), ', ' ORDER BY a.attnum) FILTER (WHERE a.is_key),
        string_agg(format('CASE WHEN o.%1$I IS DISTINCT FROM n.%1$I THEN ''%1$I = '' || pg_temp.literal(n.%1$I::text, %2$L) END',
                          a.attname, a.atttypid::regtype), ', ' ORDER BY a.attnum),
        string_agg(format('''%1$I = '' || pg_temp.literal(n.%1$I::text, %2$L)', a.attname, a.atttypid::regtype), ', ')
            FILTER (WHERE a.is_key),
        t.old, string_agg(format('o.%1$I = n.%1$I', a.attname), ' AND ') FILTER (WHERE a.is_key),
        string_agg(format('o.%I', a.attname), ', ' ORDER BY a.attnum),
        string_agg(format('n.%I', a.attname), ', ' ORDER BY a.attnum)) AS query, t.place
    FROM (VALUES
        (1, 'schema_version', 'legacy.schema_version'::regclass), (2, 'episodes', 'legacy.episodes_fit'),
        (3, 'processing_log', 'legacy.processing_log_fit'), (4, 'processing_metrics', 'legacy.processing_metrics'),
        (5, 'backup_log', 'legacy.backup_log'), (6, 'episode_dependencies', 'legacy.episode_dependencies_fit'),
        (7, 'json_metadata_index', 'legacy.json_metadata_index')) AS t (place, name, old)
    JOIN pg_constraint AS k ON k.conrelid = format('public.%I', t.name)::regclass AND k.contype = 'p'
    CROSS JOIN LATERAL (
        SELECT a.attnum, a.attname, a.atttypid, a.attnum = ANY (k.conkey) AS is_key
        FROM pg_attribute AS a
        JOIN pg_attribute AS o ON o.attrelid = t.old AND o.attname = a.attname AND o.attnum > 0
        WHERE a.attrelid = k.conrelid AND a.attnum > 0) AS a
    GROUP BY t.place, t.name, t.old;

\pset tuples_only on
\pset format unaligned
\o back.sql
\qecho 'BEGIN;'
SELECT query FROM queries ORDER BY place \gexec
\qecho 'COMMIT;'
\o
