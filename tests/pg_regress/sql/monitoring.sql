-- What the views tell of the engine and of its models.
\set SHOW_CONTEXT never
SET client_min_messages = error;
-- Has the server read its configuration, and waits for the engine that this makes necessary.
CREATE PROCEDURE reload() LANGUAGE plpgsql AS $$
DECLARE
    old integer := (SELECT pid FROM vector_embed.stat_engine);
    begun timestamptz := clock_timestamp();
BEGIN
    PERFORM pg_reload_conf();
    LOOP
        EXIT WHEN (SELECT pid <> old FROM vector_embed.stat_engine);
        IF clock_timestamp() > begun + interval '1 min' THEN
            RAISE 'there is no other engine';
        END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
END
$$;
SELECT vector_dims(embed('the library is loaded'));
ALTER SYSTEM SET vector_embed.cache_size = '20MB';  -- a fresh engine
CALL reload();

-- Nothing has been asked yet.
SELECT requests, texts, batches, batch_fill, wait_time_p50, run_time_p99, model_bytes, errors
FROM vector_embed.stat_engine;
SELECT count(*) FROM vector_embed.stat_models;

-- One text, the same from the cache, ten together, two that are cut, one that is refused.
SELECT count(embed('a lamp'));
SELECT count(embed('a lamp'));
SELECT cardinality(embed(ARRAY(SELECT 'lamp number ' || i FROM generate_series(1, 10) i)));
SELECT cardinality(embed(ARRAY[repeat('lamp ', 300), repeat('lamp ', 400)]));
SET vector_embed.overlong_text = error;
SELECT embed(repeat('lamp ', 500));
\echo :SQLSTATE
RESET vector_embed.overlong_text;

SELECT name, loaded, loads, unloads, requests, texts, cache_hits, truncated, cancelled, errors
FROM vector_embed.stat_models;
SELECT requests, texts, cache_hits, truncated, cancelled, errors, queued_texts FROM vector_embed.stat_engine;
SELECT m.tokens = e.tokens AS tokens, m.padded_tokens = e.padded_tokens AS padded_tokens,
       m.batches = e.batches AS batches, m.compute_time = e.compute_time AS compute_time,
       m.memory_bytes = e.model_bytes AS memory, m.memory_bytes > 80000000 AS much,
       m.load_time > 0 AS load_time, m.loaded_at <= m.last_used_at AS used_since,
       m.loaded_at >= e.started_at AS loaded_since
FROM vector_embed.stat_models m, vector_embed.stat_engine e;
SELECT batch_fill > 0 AND batch_fill < 2 AS filled,
       0 <= wait_time_p50 AND wait_time_p50 <= wait_time_p95 AND wait_time_p95 <= wait_time_p99 AS waits,
       0 < run_time_p50 AND run_time_p50 <= run_time_p95 AND run_time_p95 <= run_time_p99 AS runs,
       resident_bytes > model_bytes + cache_bytes AS resident
FROM vector_embed.stat_engine;

-- The hash is known as soon as somebody has asked for it.
SELECT hash FROM vector_embed.stat_models;
SELECT format, precision, loaded FROM vector_embed.models WHERE name = 'all-MiniLM-L6-v2';
SELECT s.hash = m.hash AS same FROM vector_embed.stat_models s JOIN vector_embed.models m USING (name);

-- A model that is not installed is nobody's record.
SELECT embed('a lamp', 'no-such-model');
SELECT count(*) FROM vector_embed.stat_models;

-- One that does not fit is an error that says what to do; a reload is enough.
ALTER SYSTEM SET vector_embed.max_memory = '1MB';
CALL reload();
SELECT embed('a lamp');
\echo :SQLSTATE
SELECT name, loaded, loads, errors, loaded_at, last_used_at, memory_bytes FROM vector_embed.stat_models;
ALTER SYSTEM RESET vector_embed.max_memory;
ALTER SYSTEM RESET vector_embed.cache_size;
CALL reload();
SELECT vector_dims(embed('a lamp'));
DROP PROCEDURE reload();
