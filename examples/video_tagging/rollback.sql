-- Back to before the migration. The Chroma directory was only read, so nothing has to be put back there. Segments that the
-- application wrote since are in no directory, and keep this from dropping anything.
\set ON_ERROR_STOP on
BEGIN;
DO $$
DECLARE
    new_segments bigint;
BEGIN
    LOCK TABLE video_files, video_segments IN ACCESS EXCLUSIVE MODE;
    SELECT count(*) INTO new_segments FROM video_segments s
        WHERE NOT EXISTS (SELECT FROM chroma.video_segments c WHERE c.id = s.id AND c.document IS NOT DISTINCT FROM s.description);
    IF new_segments > 0 THEN
        RAISE EXCEPTION '% segments were written or changed after the migration', new_segments
            USING HINT = 'Copy them elsewhere and delete them, then run this again.';
    END IF;
END$$;
DROP TABLE video_segments, video_files;
DROP FUNCTION video_files_updated();
DROP SERVER chroma CASCADE;
DROP SCHEMA chroma;
COMMIT;
