-- The script finds the type by search_path, where the schema that the extension goes to comes first. An impostor
-- there must not become the result of embed().
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_catalog.pg_proc p
        WHERE p.proname OPERATOR(pg_catalog.=) 'embed_immutable'
          AND p.pronamespace OPERATOR(pg_catalog.=) 'vector_embed'::pg_catalog.regnamespace
          AND NOT EXISTS (
              SELECT FROM pg_catalog.pg_depend d
              JOIN pg_catalog.pg_extension e
                ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
               AND d.refobjid OPERATOR(pg_catalog.=) e.oid
              WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass
                AND d.objid OPERATOR(pg_catalog.=) p.prorettype
                AND d.deptype OPERATOR(pg_catalog.=) 'e'
                AND e.extname OPERATOR(pg_catalog.=) 'vector'))
    THEN
        RAISE EXCEPTION 'type "vector" is not that of the extension "vector"'
            USING ERRCODE = 'invalid_object_definition',
                  HINT = 'Drop or rename the other type, or create the extension in another schema.';
    END IF;
END
$$;
