CREATE INDEX video_segments_embedding_idx ON video_segments USING hnsw (embedding vector_cosine_ops);
