-- Foreign data wrappers: old stores as foreign tables.

CREATE FUNCTION vector_embed.sqlite_handler() RETURNS fdw_handler
    AS 'MODULE_PATHNAME', 'vector_embed_sqlite_handler' LANGUAGE C STRICT;
COMMENT ON FUNCTION vector_embed.sqlite_handler() IS 'handler of the foreign data wrapper vector_embed_sqlite';

CREATE FUNCTION vector_embed.sqlite_validator(text[], oid) RETURNS void
    AS 'MODULE_PATHNAME', 'vector_embed_sqlite_validator' LANGUAGE C STRICT;
COMMENT ON FUNCTION vector_embed.sqlite_validator(text[], oid) IS
    'checks options of the foreign data wrapper vector_embed_sqlite';

CREATE FOREIGN DATA WRAPPER vector_embed_sqlite
    HANDLER vector_embed.sqlite_handler VALIDATOR vector_embed.sqlite_validator;
COMMENT ON FOREIGN DATA WRAPPER vector_embed_sqlite IS 'tables and views of an SQLite database file, to be read';

CREATE FUNCTION vector_embed.chroma_handler() RETURNS fdw_handler
    AS 'MODULE_PATHNAME', 'vector_embed_chroma_handler' LANGUAGE C STRICT;
COMMENT ON FUNCTION vector_embed.chroma_handler() IS 'handler of the foreign data wrapper vector_embed_chroma';

CREATE FUNCTION vector_embed.chroma_validator(text[], oid) RETURNS void
    AS 'MODULE_PATHNAME', 'vector_embed_chroma_validator' LANGUAGE C STRICT;
COMMENT ON FUNCTION vector_embed.chroma_validator(text[], oid) IS
    'checks options of the foreign data wrapper vector_embed_chroma';

CREATE FOREIGN DATA WRAPPER vector_embed_chroma
    HANDLER vector_embed.chroma_handler VALIDATOR vector_embed.chroma_validator;
COMMENT ON FOREIGN DATA WRAPPER vector_embed_chroma IS
    'collections of a Chroma directory or server, to be read';

CREATE FUNCTION vector_embed.qdrant_handler() RETURNS fdw_handler
    AS 'MODULE_PATHNAME', 'vector_embed_qdrant_handler' LANGUAGE C STRICT;
COMMENT ON FUNCTION vector_embed.qdrant_handler() IS 'handler of the foreign data wrapper vector_embed_qdrant';

CREATE FUNCTION vector_embed.qdrant_validator(text[], oid) RETURNS void
    AS 'MODULE_PATHNAME', 'vector_embed_qdrant_validator' LANGUAGE C STRICT;
COMMENT ON FUNCTION vector_embed.qdrant_validator(text[], oid) IS
    'checks options of the foreign data wrapper vector_embed_qdrant';

CREATE FOREIGN DATA WRAPPER vector_embed_qdrant
    HANDLER vector_embed.qdrant_handler VALIDATOR vector_embed.qdrant_validator;
COMMENT ON FOREIGN DATA WRAPPER vector_embed_qdrant IS
    'collections of a Qdrant server, or of a local store of qdrant-client, to be read';

CREATE FUNCTION vector_embed.sqlite_check(
    server text, OUT table_name text, OUT rowid bigint, OUT column_name text, OUT value text, OUT problem text)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'sqlite_check_wrapper' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED COST 100000 ROWS 100;
COMMENT ON FUNCTION vector_embed.sqlite_check(text) IS
    'every value of the SQLite file behind a server that does not fit the type its column is imported as, and what of the file cannot be read';
