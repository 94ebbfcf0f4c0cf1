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

CREATE FUNCTION vector_embed.attach(
    relation regclass, embedding text, columns text[], model text DEFAULT NULL, timing text DEFAULT 'row')
    RETURNS void
    AS 'MODULE_PATHNAME', 'attach_wrapper' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION vector_embed.attach(regclass, text, text[], text, text) IS
    'makes triggers that keep a vector column true to the text of other columns';

CREATE FUNCTION vector_embed.detach(relation regclass, embedding text) RETURNS void
    AS 'MODULE_PATHNAME', 'detach_wrapper' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION vector_embed.detach(regclass, text) IS 'drops the triggers that attach made for a vector column';

CREATE FUNCTION vector_embed.attachment_status(
    relation regclass, OUT embedding text, OUT total bigint, OUT embedded bigint, OUT missing bigint)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'attachment_status_wrapper' LANGUAGE C VOLATILE STRICT COST 10000 ROWS 1;
COMMENT ON FUNCTION vector_embed.attachment_status(regclass) IS
    'for each vector column that a trigger keeps: rows, rows with a vector, rows with text and without a vector';

-- A trigger's arguments are stored one after the other, each ended by a NUL byte. Those cloned to partitions are left
-- out: tgparentid names the trigger they were cloned from.
CREATE VIEW vector_embed.attachments AS
    SELECT t.tgrelid::pg_catalog.regclass AS relation, a.arguments[1] AS embedding, a.arguments[3:] AS columns,
           a.arguments[2] AS model,
           CASE p.proname WHEN 'embed_row' THEN 'row' ELSE 'statement' END AS timing,
           bool_and(t.tgenabled <> 'D') AS enabled, array_agg(t.tgname ORDER BY t.tgname) AS triggers,
           r.hash AS recorded_hash, m.hash AS model_hash, r.hash <> m.hash AS drifted
    FROM pg_catalog.pg_trigger t
    JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
    JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
    CROSS JOIN LATERAL (
        SELECT array_agg(pg_catalog.convert_from(pg_catalog.decode(part[1], 'hex'), pg_catalog.getdatabaseencoding())
                         ORDER BY place) AS arguments
        FROM pg_catalog.regexp_matches(pg_catalog.encode(t.tgargs, 'hex'), '((?:(?!00)[0-9a-f]{2})*)00', 'g')
             WITH ORDINALITY AS parts (part, place)) a
    CROSS JOIN LATERAL (
        SELECT substring(pg_catalog.obj_description(t.oid, 'pg_trigger')
                         FROM '^vector_embed \{.*"hash":"([0-9a-f]{64})"') AS hash) r
    LEFT JOIN vector_embed.models m ON m.name = a.arguments[2]
    WHERE p.pronamespace = 'vector_embed'::pg_catalog.regnamespace AND p.proname IN ('embed_row', 'embed_statement')
      AND t.tgparentid = 0 AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
    GROUP BY t.tgrelid, a.arguments, p.proname, r.hash, m.hash;
COMMENT ON VIEW vector_embed.attachments IS
    'vector columns that triggers keep, of tables whose owner''s role the user has; starts the engine if it does not run';
COMMENT ON COLUMN vector_embed.attachments.relation IS 'table';
COMMENT ON COLUMN vector_embed.attachments.embedding IS 'vector column';
COMMENT ON COLUMN vector_embed.attachments.columns IS 'columns whose text is embedded';
COMMENT ON COLUMN vector_embed.attachments.model IS 'name of the model';
COMMENT ON COLUMN vector_embed.attachments.timing IS 'row or statement: when vectors are made';
COMMENT ON COLUMN vector_embed.attachments.enabled IS 'whether all its triggers are enabled';
COMMENT ON COLUMN vector_embed.attachments.triggers IS 'names of its triggers';
COMMENT ON COLUMN vector_embed.attachments.recorded_hash IS
    'hash of the model when it was attached; NULL where the triggers were made by hand';
COMMENT ON COLUMN vector_embed.attachments.model_hash IS 'hash of the model that is installed by that name, or NULL';
COMMENT ON COLUMN vector_embed.attachments.drifted IS
    'whether the two hashes differ, so that the triggers refuse to mix vectors; NULL where one is not known';
GRANT SELECT ON vector_embed.attachments TO PUBLIC;
