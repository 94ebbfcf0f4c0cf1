-- Fails unless everything is there and true.
\set ON_ERROR_STOP on
DO $$
DECLARE
    missing bigint := (SELECT count(*) FROM chroma.video_segments c
                       WHERE NOT EXISTS (SELECT FROM video_segments s WHERE s.id = c.id AND s.description IS NOT DISTINCT FROM c.document));
    videos bigint := (SELECT count(*) FROM chroma.video_files c WHERE NOT EXISTS (SELECT FROM video_files f WHERE f.video_name = c.id));
    unfinished bigint := (SELECT count(*) FROM video_files WHERE db_load_status <> 'completed' OR db_segments_loaded <> total_segments);
    found record;
BEGIN
    SELECT * INTO found FROM vector_embed.verify('video_segments', 'embedding', '{description}', 'all-MiniLM-L6-v2', 200);
    IF missing + videos > 0 THEN
        RAISE EXCEPTION '% segments and % videos are missing or differ', missing, videos;
    ELSIF unfinished > 0 THEN
        RAISE EXCEPTION '% videos do not have all their segments', unfinished;
    ELSIF EXISTS (SELECT FROM video_segments WHERE embedding IS NULL) THEN
        RAISE EXCEPTION '% segments have no vector', (SELECT count(*) FROM video_segments WHERE embedding IS NULL);
    ELSIF found.verdict <> 'same' THEN
        RAISE EXCEPTION 'vectors: %', found.verdict USING DETAIL = found.advice;
    END IF;
    RAISE NOTICE '% videos, % segments; vectors: %', (SELECT count(*) FROM video_files), (SELECT count(*) FROM video_segments), found.advice;
END$$;
