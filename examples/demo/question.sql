-- The five segments nearest to :question. The distance stands once, so the index orders by it.
SELECT round((1 - distance)::numeric, 3) AS similarity, package, description
FROM (
    SELECT id AS package, description, embedding <=> embed(:'question') AS distance
    FROM video_segments
    ORDER BY distance
    LIMIT 5
) AS nearest
ORDER BY distance;
