-- Fails unless every file is a profile or was rejected with a reason, and every profile has the vector of its text.
-- In the working directory of load.sql.
\set ON_ERROR_STOP on
SET search_path = public;
CREATE TEMP TABLE files (file_path text);
\copy files from program 'ls profiles/*.json'
DO $$
DECLARE
    files bigint := (SELECT count(*) FROM files);
    missing bigint := (
        SELECT count(*) FROM files f
        WHERE NOT EXISTS (SELECT FROM user_knowledge k WHERE k.file_path = f.file_path)
          AND NOT EXISTS (SELECT FROM user_knowledge_rejected r WHERE r.file_path = f.file_path));
    loaded bigint := (SELECT count(*) FROM user_knowledge WHERE file_path IS NOT NULL);
    rejected bigint := (SELECT count(*) FROM user_knowledge_rejected);
    untrue bigint := (
        SELECT count(*) FROM user_knowledge
        WHERE (embedding <=> embed(concat_ws(E'\n\n', name, personality, background, expertise, communication_style))) < 1e-6 IS NOT TRUE);
    problem text := (SELECT problem FROM vector_embed.attachments WHERE relation = 'user_knowledge'::regclass);
BEGIN
    IF missing > 0 THEN
        RAISE EXCEPTION '% of % files are neither profiles nor rejected', missing, files;
    ELSIF untrue > 0 THEN
        RAISE EXCEPTION '% profiles do not have the vector of their text', untrue;
    ELSIF problem IS NOT NULL OR NOT EXISTS (SELECT FROM vector_embed.attachments WHERE relation = 'user_knowledge'::regclass) THEN
        RAISE EXCEPTION 'vectors of user_knowledge are not kept: %', coalesce(problem, 'not attached');
    END IF;
    RAISE NOTICE '% files: % profiles, % rejected; all vectors are those of their texts', files, loaded, rejected;
END$$;
