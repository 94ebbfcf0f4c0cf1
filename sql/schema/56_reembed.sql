-- Another model without downtime.

CREATE PROCEDURE vector_embed.reembed_start(
    relation regclass, embedding text, new_model text, batch integer DEFAULT 1000, pause interval DEFAULT '0')
    AS 'MODULE_PATHNAME', 'reembed_start_wrapper' LANGUAGE C;
COMMENT ON PROCEDURE vector_embed.reembed_start(regclass, text, text, integer, interval) IS
    'adds a column for the vectors of another model, keeps it true beside the old one, and fills it';

CREATE FUNCTION vector_embed.reembed_indexes(relation regclass, embedding text) RETURNS SETOF text
    AS 'MODULE_PATHNAME', 'reembed_indexes_wrapper' LANGUAGE C VOLATILE STRICT ROWS 2;
COMMENT ON FUNCTION vector_embed.reembed_indexes(regclass, text) IS
    'statements that give the new column the indexes of the old one, to be run one by one before reembed_finish';

CREATE FUNCTION vector_embed.reembed_finish(
    relation regclass, embedding text, drop_old boolean DEFAULT false, keep_dependents boolean DEFAULT false,
    allow_missing boolean DEFAULT false) RETURNS void
    AS 'MODULE_PATHNAME', 'reembed_finish_wrapper' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION vector_embed.reembed_finish(regclass, text, boolean, boolean, boolean) IS
    'gives the new column the name of the old one, and the old one another';

CREATE FUNCTION vector_embed.reembed_cancel(relation regclass, embedding text) RETURNS void
    AS 'MODULE_PATHNAME', 'reembed_cancel_wrapper' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION vector_embed.reembed_cancel(regclass, text) IS 'drops the new column and its triggers';
