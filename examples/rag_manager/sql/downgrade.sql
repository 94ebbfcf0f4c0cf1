-- Takes the RAG manager's tables away again. What can be loaded from the files again may go; a row that was written or
-- changed since is in no file, so then nothing is dropped. May be run again: what is gone is gone.
-- No transaction of its own: psql -1 or Alembic bring one.

SET LOCAL lock_timeout = '5s';
SET LOCAL search_path = public;

DO $$
DECLARE
    changed bigint;
BEGIN
    IF to_regclass('user_knowledge') IS NULL THEN
        RETURN;
    END IF;
    LOCK TABLE user_knowledge IN ACCESS EXCLUSIVE MODE;
    SELECT count(*) INTO changed FROM user_knowledge WHERE file_path IS NULL OR updated_at > created_at;
    IF changed > 0 THEN
        RAISE EXCEPTION '% rows of user_knowledge are in no file', changed
            USING HINT = 'Copy them elsewhere and delete them, then run this again.', ERRCODE = 'object_in_use';
    END IF;
END$$;

DROP TABLE IF EXISTS user_knowledge, user_knowledge_rejected;
DROP FUNCTION IF EXISTS user_knowledge_updated();
