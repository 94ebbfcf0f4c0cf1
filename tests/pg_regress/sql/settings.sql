-- Who may set what, and what is refused.
\set SHOW_CONTEXT never
SET vector_embed.default_model = 'no-such-model';
SELECT embed('hello');
\echo :SQLSTATE
SELECT vector_dims(embed('hello', 'all-MiniLM-L6-v2'));
SET vector_embed.default_model = '../etc';
SELECT embed('hello');
\echo :SQLSTATE
RESET vector_embed.default_model;
SELECT vector_dims(embed('hello'));

-- Overlong texts are cut and warned of once in a statement, or refused.
SELECT count(embed(repeat('word ', 300) || i)) FROM generate_series(1, 3) i;
SELECT count(embed(repeat('word ', 300) || i)) FROM generate_series(1, 3) i;  -- from the cache
SET vector_embed.overlong_text = error;
SELECT embed(repeat('word ', 300) || 1);
\echo :SQLSTATE
SELECT embed(ARRAY['short', NULL, repeat('word ', 300)]);
\echo :SQLSTATE
SELECT embed('short') IS NOT NULL;
SET vector_embed.overlong_text = 'chunk';
\echo :SQLSTATE
RESET vector_embed.overlong_text;

-- One engine serves everybody, so a session does not set it up.
SET vector_embed.threads = 1;
\echo :SQLSTATE
SET vector_embed.batch_tokens = 64;
SET vector_embed.cache_size = '1MB';
SET vector_embed.model_path = '/tmp';
SET vector_embed.max_memory = '1GB';
SET vector_embed.idle_timeout = '5min';
SET vector_embed.no_such_setting = 1;
\echo :SQLSTATE
SHOW vector_embed.cache_size;
SHOW vector_embed.max_memory;
SHOW vector_embed.idle_timeout;
SELECT name, unit FROM pg_settings WHERE name LIKE 'vector\_embed.%' AND unit IS NOT NULL ORDER BY name COLLATE "C";
\set VERBOSITY sqlstate
ALTER SYSTEM SET vector_embed.idle_timeout = '-1s';
ALTER SYSTEM SET vector_embed.max_memory = '5s';
\set VERBOSITY default

-- They take effect by a reload; the sessions notice nothing but another engine.
SELECT pid AS old_pid, threads AS old_threads FROM vector_embed.stat_engine \gset
ALTER SYSTEM SET vector_embed.threads = 3;
SELECT pg_reload_conf();
DO $$
DECLARE
    begun timestamptz := clock_timestamp();
BEGIN
    LOOP
        PERFORM embed('hello ' || clock_timestamp());
        EXIT WHEN (SELECT threads FROM vector_embed.stat_engine) = 3;
        IF clock_timestamp() > begun + interval '1 min' THEN
            RAISE 'the setting is not in force';
        END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
END
$$;
SELECT threads, pid <> :old_pid AS another, restarts > 0 AS restarted FROM vector_embed.stat_engine;
ALTER SYSTEM RESET vector_embed.threads;
SELECT pg_reload_conf();
DO $$
DECLARE
    begun timestamptz := clock_timestamp();
BEGIN
    LOOP
        PERFORM embed('hello ' || clock_timestamp());
        EXIT WHEN (SELECT threads FROM vector_embed.stat_engine) <> 3;
        IF clock_timestamp() > begun + interval '1 min' THEN
            RAISE 'the setting is still in force';
        END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
END
$$;
SELECT threads = :old_threads AS as_before FROM vector_embed.stat_engine;
