EXPLAIN (COSTS OFF)
SELECT id AS package, description, embedding <=> embed('How can I improve the photos from my last holiday?') AS distance
FROM video_segments
ORDER BY distance
LIMIT 5;
