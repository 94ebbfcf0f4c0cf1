-- Trigger functions, and attaching them. They take their arguments as tsvector_update_trigger does: names of columns
-- as they are in the catalogs.

CREATE FUNCTION vector_embed.embed_row() RETURNS trigger
    AS 'MODULE_PATHNAME', 'embed_row_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION vector_embed.embed_row() IS
    'trigger BEFORE INSERT OR UPDATE FOR EACH ROW with arguments (''embedding'', ''model'', ''column'', ...): keeps the vector of the columns'' text';

CREATE FUNCTION vector_embed.embed_statement() RETURNS trigger
    AS 'MODULE_PATHNAME', 'embed_statement_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION vector_embed.embed_statement() IS
    'trigger AFTER INSERT, or AFTER UPDATE, FOR EACH STATEMENT with transition tables and arguments (''embedding'', ''model'', ''column'', ...): keeps the vectors of the columns'' texts, computed in batches';

CREATE FUNCTION vector_embed.embed_later() RETURNS trigger
    AS 'MODULE_PATHNAME', 'embed_later_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION vector_embed.embed_later() IS
    'trigger AFTER INSERT, or AFTER UPDATE, FOR EACH STATEMENT, made by attach: queues rows, whose vectors background workers make after commit';

CREATE FUNCTION vector_embed.attach(
    relation regclass, embedding text, columns text[], model text DEFAULT NULL, timing text DEFAULT 'row',
    provenance text DEFAULT NULL)
    RETURNS void
    AS 'MODULE_PATHNAME', 'attach_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION vector_embed.attach(regclass, text, text[], text, text, text) IS
    'makes triggers that keep a vector column true to the text of other columns';

CREATE FUNCTION vector_embed.detach(relation regclass, embedding text) RETURNS void
    AS 'MODULE_PATHNAME', 'detach_wrapper' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION vector_embed.detach(regclass, text) IS 'drops the triggers that attach made for a vector column';

CREATE FUNCTION vector_embed.attachment_status(
    relation regclass, OUT embedding text, OUT total bigint, OUT embedded bigint, OUT missing bigint,
    OUT pending bigint)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'attachment_status_wrapper' LANGUAGE C VOLATILE STRICT COST 10000 ROWS 1;
COMMENT ON FUNCTION vector_embed.attachment_status(regclass) IS
    'for each vector column that a trigger keeps: rows, rows with a vector, rows with text and without a vector, rows that wait in a queue; for a chunk table: documents, those with chunks, those with text and without chunks';

CREATE FUNCTION vector_embed.recorded_model_hash(comment text) RETURNS text
    AS 'MODULE_PATHNAME', 'recorded_model_hash_wrapper' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION vector_embed.recorded_model_hash(text) IS
    'the model''s hash in the comment of an attached trigger; empty if it cannot be read, NULL if there is none';

CREATE FUNCTION vector_embed.recorded_queue(comment text) RETURNS text
    AS 'MODULE_PATHNAME', 'recorded_queue_wrapper' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION vector_embed.recorded_queue(text) IS
    'name of the queue in the comment of an attached trigger, or NULL';

-- A trigger's arguments are stored one after the other, each ended by a NUL byte. Those cloned to partitions are left
-- out: tgparentid names the trigger they were cloned from.
CREATE VIEW vector_embed.attachments AS
    SELECT f.relation,
           CASE WHEN f.keeps_chunks THEN f.arguments[5]::json #>> '{columns,embedding}'
                ELSE f.arguments[1] END AS embedding,
           CASE WHEN f.keeps_chunks THEN f.arguments[1:1] ELSE f.arguments[3:] END AS columns,
           f.arguments[2] AS model, f.timing, f.enabled, f.triggers, nullif(f.hash, '') AS recorded_hash,
           m.hash AS model_hash, nullif(f.hash, '') <> m.hash AS drifted,
           CASE WHEN f.hash = '' THEN 'the comment of a trigger was edited'
                WHEN NOT f.enabled THEN 'a trigger is disabled'
                WHEN f.timing <> 'row' AND NOT f.complete THEN 'a trigger is missing'
                WHEN f.timing <> 'row' AND f.has_parent THEN 'statements that name a parent table do not fire it'
                WHEN f.timing = 'queue' AND f.queue IS NULL THEN 'the queue is missing'
                WHEN m.name IS NULL THEN 'the model is not installed'
                WHEN m.problem IS NOT NULL THEN 'the model cannot be used'
                WHEN f.hash <> m.hash THEN 'the model is another one' END AS problem,
           CASE WHEN f.keeps_chunks THEN pg_catalog.format('%I.%I', f.arguments[3], f.arguments[4]) END AS chunk_table,
           f.queue
    FROM (
        SELECT t.tgrelid::pg_catalog.regclass AS relation, a.arguments,
               CASE p.proname WHEN 'embed_row' THEN 'row' WHEN 'embed_later' THEN 'queue'
                              ELSE CASE WHEN bool_and(vector_embed.recorded_queue(
                                  pg_catalog.obj_description(t.oid, 'pg_trigger')) IS NOT NULL)
                                  THEN 'queue' ELSE 'statement' END END AS timing,
               bool_and(t.tgenabled IN ('O', 'A')) AS enabled, array_agg(t.tgname ORDER BY t.tgname) AS triggers,
               bool_or(t.tgtype & 4 <> 0) AND bool_or(t.tgtype & 16 <> 0)
               AND (p.proname <> 'embed_chunks' OR bool_or(t.tgtype & 8 <> 0) AND bool_or(t.tgtype & 32 <> 0))
                   AS complete,
               p.proname = 'embed_chunks' AS keeps_chunks,
               c.relispartition OR EXISTS (
                   SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid) AS has_parent,
               min(vector_embed.recorded_model_hash(pg_catalog.obj_description(t.oid, 'pg_trigger'))) AS hash,
               min(pg_catalog.to_regclass(
                   pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(
                       vector_embed.recorded_queue(pg_catalog.obj_description(t.oid, 'pg_trigger'))))::oid)::regclass
                   AS queue
        FROM pg_catalog.pg_trigger t
        JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
        CROSS JOIN LATERAL (
            SELECT array_agg(
                       pg_catalog.convert_from(pg_catalog.decode(part[1], 'hex'), pg_catalog.getdatabaseencoding())
                       ORDER BY place) AS arguments
            FROM pg_catalog.regexp_matches(pg_catalog.encode(t.tgargs, 'hex'), '((?:(?!00)[0-9a-f]{2})*)00', 'g')
                 WITH ORDINALITY AS parts (part, place)) a
        WHERE p.pronamespace = 'vector_embed'::pg_catalog.regnamespace
          AND p.proname IN ('embed_row', 'embed_statement', 'embed_later', 'embed_chunks')
          AND c.relkind IN ('r', 'p', 'f') AND t.tgparentid = 0 AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
        GROUP BY t.tgrelid, c.oid, c.relispartition, a.arguments, p.proname) f
    LEFT JOIN vector_embed.models m ON m.name = f.arguments[2];
COMMENT ON VIEW vector_embed.attachments IS
    'vector columns that triggers keep, also those of chunk tables, of tables whose owner''s role the user has; starts the engine if it does not run';
COMMENT ON COLUMN vector_embed.attachments.relation IS 'table';
COMMENT ON COLUMN vector_embed.attachments.chunk_table IS 'table that has the column''s chunks and their vectors; NULL where the table itself has the vectors';
COMMENT ON COLUMN vector_embed.attachments.embedding IS 'vector column';
COMMENT ON COLUMN vector_embed.attachments.columns IS 'columns whose text is embedded';
COMMENT ON COLUMN vector_embed.attachments.model IS 'name of the model';
COMMENT ON COLUMN vector_embed.attachments.queue IS 'table that rows are queued in, with timing queue';
COMMENT ON COLUMN vector_embed.attachments.timing IS 'row, statement or queue: when vectors are made';
COMMENT ON COLUMN vector_embed.attachments.enabled IS 'whether all its triggers fire in ordinary sessions';
COMMENT ON COLUMN vector_embed.attachments.triggers IS 'names of its triggers';
COMMENT ON COLUMN vector_embed.attachments.recorded_hash IS
    'hash of the model when it was attached; NULL where the triggers were made by hand';
COMMENT ON COLUMN vector_embed.attachments.model_hash IS 'hash of the model that is installed by that name, or NULL';
COMMENT ON COLUMN vector_embed.attachments.drifted IS
    'whether the two hashes differ, so that the triggers refuse to mix vectors; NULL where one is not known';
COMMENT ON COLUMN vector_embed.attachments.problem IS 'why vectors are not kept as they should be, or NULL';
GRANT SELECT ON vector_embed.attachments TO PUBLIC;
