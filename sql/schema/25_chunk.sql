-- Cutting long texts. Not STRICT: NULL stands for what is not given, and a text that is NULL has no chunks.

CREATE FUNCTION vector_embed.chunk(
    text text, model text DEFAULT NULL, max_tokens integer DEFAULT NULL, overlap_tokens integer DEFAULT NULL,
    format text DEFAULT 'text',
    OUT chunk_index integer, OUT content text, OUT start_char integer, OUT char_count integer,
    OUT token_count integer)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'chunk_wrapper' LANGUAGE C STABLE PARALLEL SAFE COST 10000 ROWS 20;
COMMENT ON FUNCTION vector_embed.chunk(text, text, integer, integer, text) IS
    'chunks of a text that the model takes whole, cut where sections, paragraphs, sentences or words end';
