-- attach makes the triggers, after it has made sure that they can work; detach drops them.
\set SHOW_CONTEXT never
CREATE FUNCTION is_of(vector, text) RETURNS boolean LANGUAGE sql AS 'SELECT 1 - ($1 <=> embed($2)) >= 0.999999';
CREATE TABLE notes (id integer PRIMARY KEY, title text, body text, embedding vector(384));
INSERT INTO notes VALUES (1, 'Written before', 'Nobody has embedded this.');
SELECT vector_embed.attach('notes', 'embedding', '{title,body}');
\d notes
SELECT regexp_replace(obj_description(oid, 'pg_trigger'), '[0-9a-f]{64}', '(hash)') FROM pg_trigger WHERE tgrelid = 'notes'::regclass;
INSERT INTO notes VALUES (2, 'Written after', 'This is embedded.'), (3, NULL, NULL);
SELECT * FROM vector_embed.attachment_status('notes');
-- Rows that were there before get their vectors by an UPDATE that takes NULL away.
UPDATE notes SET embedding = NULL WHERE embedding IS NULL;
SELECT * FROM vector_embed.attachment_status('notes');
SELECT id, is_of(embedding, concat_ws(E'\n\n', title, body)) FROM notes ORDER BY id;

-- What is attached, as the catalogs have it.
SELECT relation, embedding, columns, model, timing, enabled, triggers, drifted FROM vector_embed.attachments;
SELECT recorded_hash = model_hash AND model_hash = hash AS same FROM vector_embed.attachments JOIN vector_embed.models ON name = model;
ALTER TABLE notes DISABLE TRIGGER zz_vector_embed_embedding;
SELECT relation, enabled FROM vector_embed.attachments;
ALTER TABLE notes ENABLE TRIGGER zz_vector_embed_embedding;

-- Again: nothing to do. Another timing: other triggers. Other columns or another model would leave vectors of two kinds.
SELECT vector_embed.attach('notes', 'embedding', '{title,body}', 'all-MiniLM-L6-v2', 'row');
SELECT vector_embed.attach('notes', 'embedding', '{title,body}', timing => 'statement');
SELECT tgname FROM pg_trigger WHERE tgrelid = 'notes'::regclass ORDER BY 1;
INSERT INTO notes VALUES (4, 'In batches', 'Now.');
SELECT is_of(embedding, E'In batches\n\nNow.') FROM notes WHERE id = 4;
SELECT timing, triggers FROM vector_embed.attachments;
SELECT vector_embed.attach('notes', 'embedding', '{body}', timing => 'statement');
\echo :SQLSTATE
COMMENT ON TRIGGER zz_vector_embed_embedding_insert ON notes IS
    'vector_embed {"timing":"statement","hash":"0000000000000000000000000000000000000000000000000000000000000000"}';
SELECT drifted FROM vector_embed.attachments;
INSERT INTO notes VALUES (5, 'Of another model', NULL);
\echo :SQLSTATE
SELECT count(*) FROM notes WHERE id = 5;
SELECT vector_embed.attach('notes', 'embedding', '{title,body}', timing => 'statement');
\echo :SQLSTATE

-- detach drops what attach made, and nothing else.
CREATE TRIGGER by_hand BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION vector_embed.embed_row('embedding', 'all-MiniLM-L6-v2', 'body');
COMMENT ON TRIGGER by_hand ON notes IS 'made by hand';
SELECT vector_embed.detach('notes', 'embedding');
SELECT vector_embed.detach('notes', 'embedding');
SELECT tgname FROM pg_trigger WHERE tgrelid = 'notes'::regclass;
SELECT timing, triggers, recorded_hash, drifted FROM vector_embed.attachments;
SELECT vector_embed.attach('notes', 'embedding', '{title,body}');
\echo :SQLSTATE
DROP TRIGGER by_hand ON notes;

-- Attached is what fires as it should; anything else is made anew.
SELECT vector_embed.attach('notes', 'embedding', '{body}');
ALTER TABLE notes DISABLE TRIGGER zz_vector_embed_embedding;
SELECT enabled, problem FROM vector_embed.attachments;
SELECT vector_embed.attach('notes', 'embedding', '{body}');
SELECT enabled, problem FROM vector_embed.attachments;
SELECT vector_embed.detach('notes', 'embedding');

-- A comment that was edited stops the trigger: nobody knows whose vectors these are.
SELECT vector_embed.attach('notes', 'embedding', '{body}');
COMMENT ON TRIGGER zz_vector_embed_embedding ON notes IS 'vector_embed {"timing":"row","hash":"abc"} -- Bob';
SELECT recorded_hash, drifted, problem FROM vector_embed.attachments;
INSERT INTO notes (id, body) VALUES (7, 'Whose?');
\echo :SQLSTATE
SELECT vector_embed.attach('notes', 'embedding', '{body}');
\echo :SQLSTATE
SELECT vector_embed.detach('notes', 'embedding');
SELECT count(*) FROM vector_embed.attachments;

-- Our trigger comes after those that change the text, or says which does not.
CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER zzz_late BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION late();
SELECT vector_embed.attach('notes', 'embedding', '{body}');
SELECT vector_embed.detach('notes', 'embedding');
DROP TRIGGER zzz_late ON notes;
DROP FUNCTION late;
CREATE FUNCTION trim_body() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.body := btrim(new.body); RETURN new; END';
CREATE TRIGGER trim_body BEFORE INSERT OR UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION trim_body();
SELECT vector_embed.attach('notes', 'embedding', '{body}');
INSERT INTO notes (id, body) VALUES (6, '   indented   ') RETURNING body, is_of(embedding, 'indented');
-- A column that was renamed: no counts, and detach by the old name.
ALTER TABLE notes RENAME body TO content;
SELECT * FROM vector_embed.attachment_status('notes');
SELECT vector_embed.detach('notes', 'embedding');
ALTER TABLE notes RENAME content TO body;
DROP TABLE notes;
DROP FUNCTION trim_body;
SELECT count(*) FROM vector_embed.attachments;

-- Long and odd names. Two columns whose names begin alike have triggers of their own.
CREATE TABLE odd ("It's \000 a ""title""" text, this_is_a_vector_column_with_a_name_that_is_as_long_as_can_be_1 vector(384),
    this_is_a_vector_column_with_a_name_that_is_as_long_as_can_be_2 vector(384));
SELECT vector_embed.attach('odd', 'this_is_a_vector_column_with_a_name_that_is_as_long_as_can_be_1', ARRAY['It''s \000 a "title"']);
SELECT vector_embed.attach('odd', 'this_is_a_vector_column_with_a_name_that_is_as_long_as_can_be_2', ARRAY['It''s \000 a "title"']);
SELECT embedding, columns, triggers FROM vector_embed.attachments ORDER BY 1;
INSERT INTO odd VALUES ('Title');
SELECT is_of(this_is_a_vector_column_with_a_name_that_is_as_long_as_can_be_2, 'Title') FROM odd;
SELECT * FROM vector_embed.attachment_status('odd') ORDER BY 1;
DROP TABLE odd;

-- A partitioned table is attached as a whole; a partition of it has its trigger already.
CREATE TABLE logs (id integer, body text, embedding vector(384)) PARTITION BY RANGE (id);
CREATE TABLE logs_all PARTITION OF logs DEFAULT;
SELECT vector_embed.attach('logs', 'embedding', '{body}');
INSERT INTO logs VALUES (1, 'Routed.');
SELECT is_of(embedding, body) FROM logs_all;
SELECT relation, triggers FROM vector_embed.attachments;
SELECT vector_embed.attach('logs_all', 'embedding', '{body}');
SELECT vector_embed.detach('logs_all', 'embedding');
SELECT vector_embed.detach('logs', 'embedding');
SELECT vector_embed.attach('logs', 'embedding', '{body}', timing => 'statement');
\echo :SQLSTATE
ALTER TABLE logs_all ADD PRIMARY KEY (id);
SELECT vector_embed.attach('logs_all', 'embedding', '{body}', timing => 'statement');
\echo :SQLSTATE
ALTER TABLE logs DETACH PARTITION logs_all;
SELECT vector_embed.attach('logs_all', 'embedding', '{body}', timing => 'statement');
ALTER TABLE logs ATTACH PARTITION logs_all DEFAULT;
SELECT relation, problem FROM vector_embed.attachments;
DROP TABLE logs;

-- What cannot work is refused before anything is made.
CREATE TABLE wrong (id integer, body text, loud text GENERATED ALWAYS AS (upper(body)) STORED,
    embedding vector(384), small vector(3), needed vector(384) NOT NULL DEFAULT array_fill(0, ARRAY[384])::vector);
CREATE VIEW viewed AS SELECT * FROM wrong;
SELECT vector_embed.attach('no_such_table', 'embedding', '{body}');
SELECT vector_embed.attach(1, 'embedding', '{body}');
\echo :SQLSTATE
SELECT vector_embed.attachment_status('viewed');
\echo :SQLSTATE
CREATE TRIGGER embed INSTEAD OF INSERT ON viewed FOR EACH ROW EXECUTE FUNCTION vector_embed.embed_row('embedding', 'all-MiniLM-L6-v2', 'body');
SELECT count(*) FROM vector_embed.attachments;
DROP TRIGGER embed ON viewed;
SELECT vector_embed.attach('viewed', 'embedding', '{body}');
\echo :SQLSTATE
SELECT vector_embed.attach('wrong', 'embeding', '{body}');
SELECT vector_embed.attach('wrong', 'body', '{body}');
SELECT vector_embed.attach('wrong', 'small', '{body}');
\echo :SQLSTATE
SELECT vector_embed.attach('wrong', 'embedding', '{id}');
SELECT vector_embed.attach('wrong', 'embedding', '{loud}');
SELECT vector_embed.attach('wrong', 'embedding', '{body,body}');
SELECT vector_embed.attach('wrong', 'embedding', '{}');
\echo :SQLSTATE
SELECT vector_embed.attach('wrong', 'embedding', '{body,NULL}');
\echo :SQLSTATE
SELECT vector_embed.attach('wrong', NULL, '{body}');
SELECT vector_embed.attach(NULL, 'embedding', '{body}');
SELECT vector_embed.attach('wrong', 'embedding', NULL);
SELECT vector_embed.attach('wrong', 'embedding', '{body}', timing => NULL);
SELECT vector_embed.attach('wrong', 'embedding', '{body}', 'no-such-model');
\echo :SQLSTATE
SELECT vector_embed.attach('wrong', 'embedding', '{body}', timing => 'sometimes');
\echo :SQLSTATE
SELECT vector_embed.attach('wrong', 'embedding', '{body}', timing => 'queue');
\echo :SQLSTATE
SELECT vector_embed.attach('wrong', 'embedding', '{body}', timing => 'statement');
\echo :SQLSTATE
ALTER TABLE wrong ADD PRIMARY KEY (id);
SELECT vector_embed.attach('wrong', 'needed', '{body}', timing => 'statement');
\echo :SQLSTATE
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'wrong'::regclass;
SELECT vector_embed.detach('viewed', 'embedding');

-- A table is its owner's to attach and to see.
CREATE ROLE regress_embed_owner;
CREATE ROLE regress_embed_writer;
ALTER TABLE wrong OWNER TO regress_embed_owner;
GRANT INSERT ON wrong TO regress_embed_writer;
SET ROLE regress_embed_writer;
SELECT vector_embed.attach('wrong', 'embedding', '{body}');
\echo :SQLSTATE
SELECT vector_embed.detach('wrong', 'embedding');
SELECT vector_embed.attachment_status('wrong');
SET ROLE regress_embed_owner;
SELECT vector_embed.attach('wrong', 'embedding', '{body}', timing => 'statement');
SELECT vector_embed.attachment_status('wrong');
SELECT relation FROM vector_embed.attachments;
SET ROLE regress_embed_writer;
SELECT relation FROM vector_embed.attachments;
INSERT INTO wrong (id, body) VALUES (1, 'From who may only insert.');
RESET ROLE;
SELECT is_of(embedding, body) FROM wrong;
DROP TABLE wrong CASCADE;
DROP ROLE regress_embed_owner, regress_embed_writer;
DROP FUNCTION is_of;
