-- Wrong arguments get an error that names the thing, and the session goes on.
\set SHOW_CONTEXT never
SELECT embed('hello', 'no-such-model');
\echo :SQLSTATE
SELECT embed('hello', '');
\echo :SQLSTATE
SELECT embed('hello', '../all-MiniLM-L6-v2');
SELECT embed('hello', 'all/MiniLM');
SELECT embed('hello', repeat('x', 64));
SELECT embed(ARRAY['hello'], 'no-such-model');
SELECT vector_embed.token_count('hello', 'no-such-model');
SELECT embed(42);
\echo :SQLSTATE
SELECT embed(repeat('x', 70000000));
\echo :SQLSTATE
CREATE TABLE small (embedding vector(3));
INSERT INTO small VALUES (embed('hello'));
\echo :SQLSTATE
DROP TABLE small;

-- A failing call ends its transaction like any other error, and a savepoint keeps the rest.
BEGIN;
SAVEPOINT before;
SELECT embed('hello', 'no-such-model');
ROLLBACK TO before;
SELECT vector_dims(embed('hello'));
COMMIT;

-- Caught a hundred times, nothing is left over.
DO $$
BEGIN
    FOR i IN 1..100 LOOP
        BEGIN
            PERFORM embed('hello', 'no-such-model');
        EXCEPTION WHEN undefined_object THEN
            NULL;
        END;
    END LOOP;
END
$$;

-- A timeout in mid-call, and the connection is as good as new.
-- In a transaction, whose abort takes the setting back, so that it cannot end the next statement, too.
BEGIN;
SET LOCAL statement_timeout = '50ms';
SELECT embed(array_agg(repeat('a slow and steady text number ' || i || ' ', 30))) FROM generate_series(1, 2000) i;
\echo :SQLSTATE
ROLLBACK;
SELECT vector_dims(embed('hello'));
