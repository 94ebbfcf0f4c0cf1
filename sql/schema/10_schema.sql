CREATE SCHEMA vector_embed;
COMMENT ON SCHEMA vector_embed IS 'administration and monitoring of text embeddings';
GRANT USAGE ON SCHEMA vector_embed TO PUBLIC;
