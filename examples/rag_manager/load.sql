-- Loads the JSON files in the folder `profiles` below the working directory of psql, which reads them: the role needs no
-- right to the server's files. A file that was loaded before replaces its profile; one that cannot be read as a profile
-- goes to user_knowledge_rejected with the reason.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL search_path = public, pg_temp;
CREATE TEMP TABLE encoded (file_path text, content text) ON COMMIT DROP;
\copy encoded from program 'for f in profiles/*.json; do printf "%s\t%s\n" "$f" "$(base64 -w 0 "$f")"; done'
CREATE TEMP TABLE files ON COMMIT DROP AS
    SELECT file_path, decode(content, 'base64') AS content, NULL::jsonb AS profile, NULL::text AS problem FROM encoded;
ALTER TABLE files ADD PRIMARY KEY (file_path);

-- Each file by itself: one that is broken must not keep the others out.
DO $$
DECLARE
    file record;
BEGIN
    FOR file IN SELECT * FROM files LOOP
        BEGIN
            -- A byte order mark is no part of the text.
            UPDATE files SET profile = ltrim(convert_from(file.content, 'UTF8'), U&'\FEFF')::jsonb WHERE file_path = file.file_path;
        EXCEPTION WHEN data_exception OR character_not_in_repertoire THEN
            UPDATE files SET problem = SQLERRM WHERE file_path = file.file_path;
        END;
    END LOOP;
END$$;

UPDATE files SET problem = CASE
        WHEN jsonb_typeof(profile) <> 'object' THEN 'not an object'
        WHEN coalesce(profile->>'user_id', '') = '' THEN 'no user_id'
        WHEN coalesce(profile->>'name', '') = '' THEN 'no name'
        WHEN profile ? 'expertise' AND jsonb_typeof(profile->'expertise') <> 'array' THEN 'expertise is not a list'
        WHEN profile ? 'preferences' AND jsonb_typeof(profile->'preferences') <> 'object' THEN 'preferences is not an object'
    END
    WHERE problem IS NULL;
-- Of two files for one user neither is known to be the right one; the one that was loaded first stays.
UPDATE files f SET problem = 'user_id of another file'
    WHERE problem IS NULL AND (
        EXISTS (SELECT FROM files o WHERE o.problem IS NULL AND o.profile->>'user_id' = f.profile->>'user_id' AND o.file_path < f.file_path)
        OR EXISTS (SELECT FROM user_knowledge k WHERE k.user_id = f.profile->>'user_id' AND k.file_path <> f.file_path));

INSERT INTO user_knowledge (user_id, name, personality, background, expertise, communication_style, preferences, file_path)
    SELECT profile->>'user_id', profile->>'name', profile->>'personality', profile->>'background',
           coalesce(profile->'expertise', '[]'), profile->>'communication_style', coalesce(profile->'preferences', '{}'), file_path
    FROM files WHERE problem IS NULL
    ON CONFLICT (user_id) DO UPDATE SET
        (name, personality, background, expertise, communication_style, preferences, file_path) =
        (excluded.name, excluded.personality, excluded.background, excluded.expertise, excluded.communication_style,
         excluded.preferences, excluded.file_path)
    -- A row that is as its file says keeps its time.
    WHERE (user_knowledge.name, user_knowledge.personality, user_knowledge.background, user_knowledge.expertise,
           user_knowledge.communication_style, user_knowledge.preferences, user_knowledge.file_path)
        IS DISTINCT FROM
          (excluded.name, excluded.personality, excluded.background, excluded.expertise, excluded.communication_style,
           excluded.preferences, excluded.file_path);

INSERT INTO user_knowledge_rejected (file_path, problem, content) SELECT file_path, problem, content FROM files WHERE problem IS NOT NULL
    ON CONFLICT (file_path) DO UPDATE SET (problem, content, rejected_at) = (excluded.problem, excluded.content, now());
DELETE FROM user_knowledge_rejected r USING files f WHERE f.file_path = r.file_path AND f.problem IS NULL;
COMMIT;

SELECT file_path, problem FROM user_knowledge_rejected ORDER BY 1;
