-- embed() and its relatives. A call costs milliseconds of a model's time, hence the COST; it is STABLE because
-- the model may be exchanged, and PARALLEL SAFE because every process has its own connection to the one engine.

CREATE FUNCTION vector_embed.embed_support(internal) RETURNS internal
    AS 'MODULE_PATHNAME', 'vector_embed_support' LANGUAGE C STRICT;
COMMENT ON FUNCTION vector_embed.embed_support(internal) IS
    'planner support for embed: calls without variables are computed once per execution';
REVOKE ALL ON FUNCTION vector_embed.embed_support(internal) FROM PUBLIC;

CREATE FUNCTION embed(text) RETURNS vector
    AS 'MODULE_PATHNAME', 'embed_wrapper' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 10000
    SUPPORT vector_embed.embed_support;
COMMENT ON FUNCTION embed(text) IS
    'embedding of a stored text by the model of vector_embed.default_model';

CREATE FUNCTION embed(text, model text) RETURNS vector
    AS 'MODULE_PATHNAME', 'embed_with_model_wrapper' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 10000
    SUPPORT vector_embed.embed_support;
COMMENT ON FUNCTION embed(text, text) IS 'embedding of a stored text by the given model';

CREATE FUNCTION embed(text[]) RETURNS vector[]
    AS 'MODULE_PATHNAME', 'embed_array_wrapper' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 100000
    SUPPORT vector_embed.embed_support;
COMMENT ON FUNCTION embed(text[]) IS
    'embeddings of stored texts by the model of vector_embed.default_model, computed in batches';

CREATE FUNCTION embed(text[], model text) RETURNS vector[]
    AS 'MODULE_PATHNAME', 'embed_array_with_model_wrapper' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 100000
    SUPPORT vector_embed.embed_support;
COMMENT ON FUNCTION embed(text[], text) IS
    'embeddings of stored texts by the given model, computed in batches';

CREATE FUNCTION embed_query(text) RETURNS vector
    AS 'MODULE_PATHNAME', 'embed_query_wrapper' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 10000
    SUPPORT vector_embed.embed_support;
COMMENT ON FUNCTION embed_query(text) IS
    'embedding of a search text by the model of vector_embed.default_model';

CREATE FUNCTION embed_query(text, model text) RETURNS vector
    AS 'MODULE_PATHNAME', 'embed_query_with_model_wrapper' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 10000
    SUPPORT vector_embed.embed_support;
COMMENT ON FUNCTION embed_query(text, text) IS 'embedding of a search text by the given model';

CREATE FUNCTION vector_embed.embed_immutable(text, model text) RETURNS vector
    AS 'MODULE_PATHNAME', 'embed_with_model_wrapper' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION vector_embed.embed_immutable(text, text) IS
    'embed() for generated columns and expression indexes; whoever uses it promises that the model will not change';

CREATE FUNCTION vector_embed.token_count(text) RETURNS integer
    AS 'MODULE_PATHNAME', 'token_count_wrapper' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION vector_embed.token_count(text) IS
    'tokens of a text before truncation, special tokens and prompt included, for the model of vector_embed.default_model';

CREATE FUNCTION vector_embed.token_count(text, model text) RETURNS integer
    AS 'MODULE_PATHNAME', 'token_count_with_model_wrapper' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION vector_embed.token_count(text, text) IS
    'tokens of a text before truncation, special tokens and prompt included, for the given model';
