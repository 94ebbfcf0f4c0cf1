-- Keeping a table of chunks true to a table of documents.

CREATE FUNCTION vector_embed.embed_chunks() RETURNS trigger
    AS 'MODULE_PATHNAME', 'embed_chunks_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION vector_embed.embed_chunks() IS
    'trigger AFTER INSERT, UPDATE, DELETE or TRUNCATE FOR EACH STATEMENT, made by attach_chunks: keeps the chunks of documents';

CREATE FUNCTION vector_embed.attach_chunks(
    relation regclass, text_column text, chunk_table text, key text[] DEFAULT NULL, model text DEFAULT NULL,
    max_tokens integer DEFAULT NULL, overlap_tokens integer DEFAULT NULL, format text DEFAULT 'text',
    columns jsonb DEFAULT NULL, fill jsonb DEFAULT NULL, timing text DEFAULT 'statement')
    RETURNS void
    AS 'MODULE_PATHNAME', 'attach_chunks_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION
    vector_embed.attach_chunks(regclass, text, text, text[], text, integer, integer, text, jsonb, jsonb, text) IS
    'makes triggers that keep the chunks of a column''s texts in another table, which is created if there is none';

CREATE FUNCTION vector_embed.detach_chunks(relation regclass, chunk_table text) RETURNS void
    AS 'MODULE_PATHNAME', 'detach_chunks_wrapper' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION vector_embed.detach_chunks(regclass, text) IS
    'drops the triggers that attach_chunks made for a chunk table';
