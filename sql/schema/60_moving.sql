-- What helps to move data from elsewhere, and to be sure of it.

CREATE FUNCTION vector_embed.verify(
    relation regclass, embedding text, columns text[], model text DEFAULT NULL, sample integer DEFAULT 100,
    OUT verdict text, OUT advice text, OUT compared bigint, OUT agreeing bigint, OUT min_cosine double precision,
    OUT mean_cosine double precision, OUT median_cosine double precision, OUT max_tokens integer,
    OUT normalized boolean)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'verify_wrapper' LANGUAGE C VOLATILE COST 10000 ROWS 1;
COMMENT ON FUNCTION vector_embed.verify(regclass, text, text[], text, integer) IS
    'embeds a sample of texts anew and tells whether the vectors stored with them are the model''s own';
