-- What only PostgreSQL 18 and later have. Before, this file ends here.
SELECT current_setting('server_version_num')::integer < 180000 AS before_18 \gset
\if :before_18
\quit
\endif

-- A virtual generated column has no value of its own that a trigger could read.
CREATE TABLE pages (
    id integer PRIMARY KEY, title text NOT NULL, body text,
    loud text GENERATED ALWAYS AS (upper(title)) VIRTUAL,
    embedding vector(384));
SELECT vector_embed.attach('pages', 'embedding', '{loud}');
SELECT vector_embed.attach('pages', 'embedding', '{loud}', timing => 'statement');

-- Beside those that are embedded it does no harm. RETURNING tells of both rows.
CREATE FUNCTION is_of(vector, text) RETURNS boolean LANGUAGE sql AS 'SELECT $1 <=> embed($2) < 0.000001';
SELECT vector_embed.attach('pages', 'embedding', '{title,body}');
INSERT INTO pages VALUES (1, 'Dew', 'Wet grass before sunrise.'), (2, 'Hail', NULL)
RETURNING id, loud, old.embedding IS NULL AS was_null, is_of(new.embedding, concat_ws(E'\n\n', new.title, new.body)) AS is_new;
UPDATE pages SET title = 'Sleet' WHERE id = 2
RETURNING loud, is_of(old.embedding, 'Hail') AS was_old, is_of(embedding, 'Sleet') AS is_new;
SELECT vector_embed.detach('pages', 'embedding');
SELECT vector_embed.attach('pages', 'embedding', '{title,body}', timing => 'statement');
INSERT INTO pages VALUES (3, 'Frost', NULL), (4, 'Rime', 'Needles of ice.');
UPDATE pages SET body = 'In the morning.' WHERE id = 3;
MERGE INTO pages p USING (VALUES (4, 'Thaw'), (5, 'Mist')) AS v (id, title) ON p.id = v.id
WHEN MATCHED THEN UPDATE SET title = v.title
WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.title)
WHEN NOT MATCHED BY SOURCE AND p.id < 3 THEN UPDATE SET body = 'Gone by noon.'
RETURNING merge_action(), p.id, loud;
SELECT id, loud, is_of(embedding, concat_ws(E'\n\n', title, body)) FROM pages ORDER BY id;
SELECT * FROM vector_embed.attachment_status('pages');

-- A key over a period has no equality to write back by.
CREATE TABLE bookings (
    room int4range, during daterange, purpose text, embedding vector(384),
    PRIMARY KEY (room, during WITHOUT OVERLAPS));
SELECT vector_embed.attach('bookings', 'embedding', '{purpose}', timing => 'statement');
SELECT vector_embed.attach('bookings', 'embedding', '{purpose}');
INSERT INTO bookings VALUES ('[1,1]', '[2030-01-01,2030-02-01)', 'painting the walls');
UPDATE bookings SET purpose = 'choir rehearsal';
SELECT is_of(embedding, 'choir rehearsal') FROM bookings;

-- A constraint that old rows need not meet yet is one for new rows.
ALTER TABLE pages ADD CONSTRAINT has_vector NOT NULL embedding NOT VALID;
SELECT vector_embed.detach('pages', 'embedding');
SELECT vector_embed.attach('pages', 'embedding', '{title,body}', timing => 'statement');

DROP TABLE pages, bookings;
DROP FUNCTION is_of(vector, text);
