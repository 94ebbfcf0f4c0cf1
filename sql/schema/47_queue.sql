-- Queues of rows whose vectors are made after commit.

CREATE FUNCTION vector_embed.queue_depths(
    OUT relation regclass, OUT embedding text, OUT queue regclass, OUT depth bigint, OUT failed bigint,
    OUT oldest text, OUT rate double precision)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'queue_depths_wrapper' LANGUAGE C VOLATILE STRICT COST 10000 ROWS 10;
COMMENT ON FUNCTION vector_embed.queue_depths() IS 'the function behind the view vector_embed.queue';

CREATE VIEW vector_embed.queue AS
    SELECT relation, embedding, queue, depth, failed, oldest::timestamptz AS oldest, rate
    FROM vector_embed.queue_depths();
COMMENT ON VIEW vector_embed.queue IS
    'queues of tables whose owner''s role the user has; counts their items';
COMMENT ON COLUMN vector_embed.queue.relation IS 'table';
COMMENT ON COLUMN vector_embed.queue.embedding IS 'vector column';
COMMENT ON COLUMN vector_embed.queue.queue IS 'table that rows are queued in; NULL if it is missing or not as it should be';
COMMENT ON COLUMN vector_embed.queue.depth IS 'items; a row that was written several times has several';
COMMENT ON COLUMN vector_embed.queue.failed IS 'items of rows that have failed, which vector_embed.failures tells of';
COMMENT ON COLUMN vector_embed.queue.oldest IS 'when the oldest of the other items was added';
COMMENT ON COLUMN vector_embed.queue.rate IS 'rows done a second, over the last ten seconds';
GRANT SELECT ON vector_embed.queue TO PUBLIC;

CREATE FUNCTION vector_embed.queue_failures(
    OUT relation regclass, OUT embedding text, OUT key text, OUT sqlstate text, OUT message text,
    OUT attempts integer, OUT next_try text)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'queue_failures_wrapper' LANGUAGE C VOLATILE STRICT COST 10000 ROWS 10;
COMMENT ON FUNCTION vector_embed.queue_failures() IS 'the function behind the view vector_embed.failures';

CREATE VIEW vector_embed.failures AS
    SELECT relation, embedding, key::jsonb AS key, sqlstate, message, attempts,
           nullif(next_try::timestamptz, 'infinity') AS next_try
    FROM vector_embed.queue_failures();
COMMENT ON VIEW vector_embed.failures IS
    'queued rows whose vectors could not be made or stored, of tables whose owner''s role the user has';
COMMENT ON COLUMN vector_embed.failures.relation IS 'table';
COMMENT ON COLUMN vector_embed.failures.embedding IS 'vector column';
COMMENT ON COLUMN vector_embed.failures.key IS 'the row''s primary key, as an object of its columns';
COMMENT ON COLUMN vector_embed.failures.sqlstate IS 'SQLSTATE of the last error';
COMMENT ON COLUMN vector_embed.failures.message IS 'message of the last error';
COMMENT ON COLUMN vector_embed.failures.attempts IS 'how often it was tried';
COMMENT ON COLUMN vector_embed.failures.next_try IS
    'when it is tried again; NULL: when its text changes, or by vector_embed.retry_failures';
GRANT SELECT ON vector_embed.failures TO PUBLIC;

CREATE FUNCTION vector_embed.retry_failures(relation regclass) RETURNS bigint
    AS 'MODULE_PATHNAME', 'retry_failures_wrapper' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION vector_embed.retry_failures(regclass) IS
    'has queued rows of a table tried again at once that have failed; returns how many';

CREATE PROCEDURE vector_embed.drain(relation regclass, timeout interval DEFAULT NULL)
    AS 'MODULE_PATHNAME', 'drain_wrapper' LANGUAGE C;
COMMENT ON PROCEDURE vector_embed.drain(regclass, interval) IS
    'waits until background workers have emptied the queues of a table, but for rows that fail';
