-- What helps to move data from elsewhere, and to be sure of it. All run as their caller.

CREATE FUNCTION vector_embed.sync_identity(
    relation regclass, floor bigint DEFAULT NULL,
    OUT column_name text, OUT sequence regclass, OUT next_value bigint)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'sync_identity_wrapper' LANGUAGE C VOLATILE COST 10000 ROWS 1;
COMMENT ON FUNCTION vector_embed.sync_identity(regclass, bigint) IS
    'sets the sequences of a table''s columns past the values that are there, never back; locks the table against writers';

CREATE FUNCTION vector_embed.diff(
    source regclass, target regclass, key text[] DEFAULT NULL, columns text[] DEFAULT NULL,
    OUT key text, OUT column_name text, OUT source_value text, OUT target_value text)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'diff_wrapper' LANGUAGE C STABLE COST 1000000 ROWS 1000;
COMMENT ON FUNCTION vector_embed.diff(regclass, regclass, text[], text[]) IS
    'values that differ between two relations, by key; without a column name: how many rows of the key each has';

-- The settings are those that the texts of values depend on.
CREATE FUNCTION vector_embed.checksum(
    relation regclass, columns text[] DEFAULT NULL, OUT rows bigint, OUT checksum text)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'checksum_wrapper' LANGUAGE C STABLE COST 1000000 ROWS 1
    SET search_path = pg_catalog, pg_temp SET DateStyle = 'ISO, YMD' SET IntervalStyle = 'postgres' SET TimeZone = 'UTC'
    SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' SET quote_all_identifiers = off;
COMMENT ON FUNCTION vector_embed.checksum(regclass, text[]) IS
    'number of rows of a relation, and a checksum of them that does not depend on their order';

CREATE FUNCTION vector_embed.verify(
    relation regclass, embedding text, columns text[], model text DEFAULT NULL, sample integer DEFAULT 100,
    OUT verdict text, OUT advice text, OUT compared bigint, OUT agreeing bigint, OUT min_cosine double precision,
    OUT mean_cosine double precision, OUT median_cosine double precision, OUT max_tokens integer,
    OUT normalized boolean)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'verify_wrapper' LANGUAGE C VOLATILE COST 10000 ROWS 1;
COMMENT ON FUNCTION vector_embed.verify(regclass, text, text[], text, integer) IS
    'embeds a sample of texts anew and tells whether the vectors stored with them are the model''s own';
