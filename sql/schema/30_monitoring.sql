CREATE FUNCTION vector_embed.models(
    OUT name text, OUT dimensions integer, OUT max_tokens integer, OUT pooling text, OUT normalized boolean,
    OUT document_prompt text, OUT query_prompt text, OUT format text, OUT "precision" text, OUT bytes bigint,
    OUT hash text, OUT loaded boolean, OUT problem text)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'models_wrapper' LANGUAGE C VOLATILE STRICT PARALLEL SAFE COST 1000 ROWS 10;
COMMENT ON FUNCTION vector_embed.models() IS 'the function behind the view vector_embed.models';

CREATE VIEW vector_embed.models AS
    SELECT name, dimensions, max_tokens, pooling, normalized, document_prompt, query_prompt, format, precision, bytes,
           hash, loaded, problem
    FROM vector_embed.models();
COMMENT ON VIEW vector_embed.models IS 'the installed models; starts the engine if it does not run';
COMMENT ON COLUMN vector_embed.models.name IS 'name by which embed() knows the model';
COMMENT ON COLUMN vector_embed.models.dimensions IS 'length of its vectors; NULL where only loading it tells';
COMMENT ON COLUMN vector_embed.models.max_tokens IS 'tokens it takes of a text, special tokens and prompt included';
COMMENT ON COLUMN vector_embed.models.pooling IS 'how token vectors become one: mean, cls, max, lasttoken, mean_sqrt_len_tokens, weightedmean';
COMMENT ON COLUMN vector_embed.models.normalized IS 'whether vectors are brought to unit length';
COMMENT ON COLUMN vector_embed.models.document_prompt IS 'prompt that embed() puts before a text';
COMMENT ON COLUMN vector_embed.models.query_prompt IS 'prompt that embed_query() puts before a text';
COMMENT ON COLUMN vector_embed.models.format IS 'safetensors or onnx';
COMMENT ON COLUMN vector_embed.models.precision IS 'numbers it computes with: fp32, int8 or bf16; NULL where its graph decides';
COMMENT ON COLUMN vector_embed.models.bytes IS 'size of the files that decide the vectors';
COMMENT ON COLUMN vector_embed.models.hash IS 'SHA-256 over those files; equal hashes mean equal vectors';
COMMENT ON COLUMN vector_embed.models.loaded IS 'whether the engine holds the model in memory';
COMMENT ON COLUMN vector_embed.models.problem IS 'why the model cannot be used, or NULL';
GRANT SELECT ON vector_embed.models TO PUBLIC;

CREATE FUNCTION vector_embed.stat_engine(
    OUT pid integer, OUT runtime text, OUT started_at_micros bigint, OUT restarts bigint, OUT resident_bytes bigint,
    OUT cache_bytes bigint, OUT model_bytes bigint, OUT threads integer, OUT batch_tokens integer,
    OUT connections integer, OUT queued_texts bigint, OUT requests bigint, OUT texts bigint, OUT cache_hits bigint,
    OUT batches bigint, OUT tokens bigint, OUT padded_tokens bigint, OUT compute_micros bigint,
    OUT wait_micros bigint[], OUT run_micros bigint[], OUT truncated bigint, OUT cancelled bigint, OUT errors bigint)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'stat_engine_wrapper' LANGUAGE C VOLATILE STRICT PARALLEL SAFE COST 100 ROWS 2;
COMMENT ON FUNCTION vector_embed.stat_engine() IS 'the function behind the view vector_embed.stat_engine';

CREATE VIEW vector_embed.stat_engine AS
    SELECT pid, runtime, pg_catalog.to_timestamp(started_at_micros / 1e6) AS started_at, restarts, resident_bytes,
           cache_bytes, model_bytes, threads, connections, queued_texts, requests, texts, cache_hits, batches, tokens,
           padded_tokens,
           padded_tokens / NULLIF(batches * batch_tokens, 0)::double precision AS batch_fill,
           compute_micros / 1e3::double precision AS compute_time,
           wait_micros[1] / 1e3::double precision AS wait_time_p50,
           wait_micros[2] / 1e3::double precision AS wait_time_p95,
           wait_micros[3] / 1e3::double precision AS wait_time_p99,
           run_micros[1] / 1e3::double precision AS run_time_p50,
           run_micros[2] / 1e3::double precision AS run_time_p95,
           run_micros[3] / 1e3::double precision AS run_time_p99,
           truncated, cancelled, errors
    FROM vector_embed.stat_engine();
COMMENT ON VIEW vector_embed.stat_engine IS 'the embedding engines that run, since they started; no row if none does';
COMMENT ON COLUMN vector_embed.stat_engine.pid IS 'process id';
COMMENT ON COLUMN vector_embed.stat_engine.runtime IS 'onnxruntime, or openvino for the process of models with bf16';
COMMENT ON COLUMN vector_embed.stat_engine.started_at IS 'start of the process; counters begin at zero then';
COMMENT ON COLUMN vector_embed.stat_engine.restarts IS 'how often the supervisor has started an engine after its first';
COMMENT ON COLUMN vector_embed.stat_engine.resident_bytes IS 'resident memory';
COMMENT ON COLUMN vector_embed.stat_engine.cache_bytes IS 'memory that the cache of vectors takes, part of resident_bytes';
COMMENT ON COLUMN vector_embed.stat_engine.model_bytes IS 'memory of the models that are loaded, which vector_embed.max_memory bounds, part of resident_bytes';
COMMENT ON COLUMN vector_embed.stat_engine.threads IS 'threads that compute one batch';
COMMENT ON COLUMN vector_embed.stat_engine.connections IS 'connections open, the one that asks included';
COMMENT ON COLUMN vector_embed.stat_engine.queued_texts IS 'texts that wait';
COMMENT ON COLUMN vector_embed.stat_engine.requests IS 'requests to embed, of one text or many';
COMMENT ON COLUMN vector_embed.stat_engine.texts IS 'texts computed by a model';
COMMENT ON COLUMN vector_embed.stat_engine.cache_hits IS 'texts not computed because their vectors were in the cache';
COMMENT ON COLUMN vector_embed.stat_engine.batches IS 'batches computed';
COMMENT ON COLUMN vector_embed.stat_engine.tokens IS 'tokens computed';
COMMENT ON COLUMN vector_embed.stat_engine.padded_tokens IS 'tokens computed, padding included';
COMMENT ON COLUMN vector_embed.stat_engine.batch_fill IS 'padded_tokens of a batch on average, as a part of vector_embed.batch_tokens; NULL before the first';
COMMENT ON COLUMN vector_embed.stat_engine.compute_time IS 'time the models computed, in milliseconds';
COMMENT ON COLUMN vector_embed.stat_engine.wait_time_p50 IS 'median of the time from the arrival of a text to the start of its batch, in milliseconds';
COMMENT ON COLUMN vector_embed.stat_engine.wait_time_p95 IS 'that time of the slowest of 20 texts, in milliseconds';
COMMENT ON COLUMN vector_embed.stat_engine.wait_time_p99 IS 'that time of the slowest of 100 texts, in milliseconds';
COMMENT ON COLUMN vector_embed.stat_engine.run_time_p50 IS 'median of the time that the batch of a text was computed, in milliseconds';
COMMENT ON COLUMN vector_embed.stat_engine.run_time_p95 IS 'that time of the slowest of 20 texts, in milliseconds';
COMMENT ON COLUMN vector_embed.stat_engine.run_time_p99 IS 'that time of the slowest of 100 texts, in milliseconds';
COMMENT ON COLUMN vector_embed.stat_engine.truncated IS 'texts cut to the limit of their model';
COMMENT ON COLUMN vector_embed.stat_engine.cancelled IS 'texts dropped because their caller went away';
COMMENT ON COLUMN vector_embed.stat_engine.errors IS 'requests that failed';
GRANT SELECT ON vector_embed.stat_engine TO PUBLIC;

CREATE FUNCTION vector_embed.stat_models(
    OUT name text, OUT hash text, OUT loaded_at_micros bigint, OUT used_at_micros bigint, OUT memory_bytes bigint,
    OUT loads bigint, OUT unloads bigint, OUT load_micros bigint, OUT requests bigint, OUT texts bigint,
    OUT cache_hits bigint, OUT batches bigint, OUT tokens bigint, OUT padded_tokens bigint, OUT compute_micros bigint,
    OUT truncated bigint, OUT cancelled bigint, OUT errors bigint)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'stat_models_wrapper' LANGUAGE C VOLATILE STRICT PARALLEL SAFE COST 100 ROWS 10;
COMMENT ON FUNCTION vector_embed.stat_models() IS 'the function behind the view vector_embed.stat_models';

CREATE VIEW vector_embed.stat_models AS
    SELECT name, hash, loaded_at_micros IS NOT NULL AS loaded,
           pg_catalog.to_timestamp(loaded_at_micros / 1e6) AS loaded_at,
           pg_catalog.to_timestamp(used_at_micros / 1e6) AS last_used_at, memory_bytes, loads, unloads,
           load_micros / 1e3::double precision AS load_time, requests, texts, cache_hits, batches, tokens, padded_tokens,
           compute_micros / 1e3::double precision AS compute_time, truncated, cancelled, errors
    FROM vector_embed.stat_models();
COMMENT ON VIEW vector_embed.stat_models IS 'the models that the embedding engine was asked for since it started; no row if none runs';
COMMENT ON COLUMN vector_embed.stat_models.name IS 'name by which embed() knows the model';
COMMENT ON COLUMN vector_embed.stat_models.hash IS 'SHA-256 over the files that are loaded, or were the last time; NULL if nobody has asked for it';
COMMENT ON COLUMN vector_embed.stat_models.loaded IS 'whether the model is in memory';
COMMENT ON COLUMN vector_embed.stat_models.loaded_at IS 'when it was loaded; NULL if it is not in memory';
COMMENT ON COLUMN vector_embed.stat_models.last_used_at IS 'when somebody last asked for it; NULL if it could never be loaded';
COMMENT ON COLUMN vector_embed.stat_models.memory_bytes IS 'memory of the model, 0 if it is not loaded';
COMMENT ON COLUMN vector_embed.stat_models.loads IS 'how often it was loaded';
COMMENT ON COLUMN vector_embed.stat_models.unloads IS 'how often it was unloaded: not used for long, in the way of another, or replaced';
COMMENT ON COLUMN vector_embed.stat_models.load_time IS 'time that loading took, in milliseconds';
COMMENT ON COLUMN vector_embed.stat_models.requests IS 'requests to embed, of one text or many';
COMMENT ON COLUMN vector_embed.stat_models.texts IS 'texts that it computed';
COMMENT ON COLUMN vector_embed.stat_models.cache_hits IS 'texts not computed because their vectors were in the cache';
COMMENT ON COLUMN vector_embed.stat_models.batches IS 'batches computed';
COMMENT ON COLUMN vector_embed.stat_models.tokens IS 'tokens computed';
COMMENT ON COLUMN vector_embed.stat_models.padded_tokens IS 'tokens computed, padding included';
COMMENT ON COLUMN vector_embed.stat_models.compute_time IS 'time it computed, in milliseconds';
COMMENT ON COLUMN vector_embed.stat_models.truncated IS 'texts cut to its limit';
COMMENT ON COLUMN vector_embed.stat_models.cancelled IS 'texts dropped because their caller went away';
COMMENT ON COLUMN vector_embed.stat_models.errors IS 'requests that failed';
GRANT SELECT ON vector_embed.stat_models TO PUBLIC;
