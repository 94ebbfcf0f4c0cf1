-- The wrapper vector_embed_qdrant without a store: what its options may be, and who sets them. Reading is tested in
-- crates/sources/tests/qdrant and tests/e2e, against the real client's stores.
\set SHOW_CONTEXT never
SET client_min_messages = warning;

-- A store is a server or a directory.
CREATE SERVER q FOREIGN DATA WRAPPER vector_embed_qdrant;
CREATE SERVER q FOREIGN DATA WRAPPER vector_embed_qdrant OPTIONS (url 'http://127.0.0.1:1', path '/nowhere');
CREATE SERVER q FOREIGN DATA WRAPPER vector_embed_qdrant OPTIONS (path 'nowhere');
CREATE SERVER q FOREIGN DATA WRAPPER vector_embed_qdrant OPTIONS (path '/nowhere', timeout '5');
CREATE SERVER q FOREIGN DATA WRAPPER vector_embed_qdrant OPTIONS (url 'ftp://127.0.0.1');
CREATE SERVER q FOREIGN DATA WRAPPER vector_embed_qdrant OPTIONS (url 'http://me:secret@127.0.0.1');
CREATE SERVER q FOREIGN DATA WRAPPER vector_embed_qdrant OPTIONS (url 'http://127.0.0.1:1/?key=secret');
CREATE SERVER q FOREIGN DATA WRAPPER vector_embed_qdrant OPTIONS (url 'http://127.0.0.1:1', timeout '0');
CREATE SERVER q FOREIGN DATA WRAPPER vector_embed_qdrant OPTIONS (url 'http://127.0.0.1:1', connect_timeout 'soon');
CREATE SERVER q FOREIGN DATA WRAPPER vector_embed_qdrant OPTIONS (url 'http://127.0.0.1:1', retries '11');
CREATE SERVER q FOREIGN DATA WRAPPER vector_embed_qdrant OPTIONS (url 'http://127.0.0.1:1', fetch_size '0');
CREATE SERVER q FOREIGN DATA WRAPPER vector_embed_qdrant OPTIONS (url 'http://127.0.0.1:1', allow_plain_http 'perhaps');
CREATE SERVER q FOREIGN DATA WRAPPER vector_embed_qdrant OPTIONS (url 'http://127.0.0.1:1', on_error 'ignore');
CREATE SERVER q FOREIGN DATA WRAPPER vector_embed_qdrant OPTIONS (url 'http://127.0.0.1:1', ca_file 'ca.pem');

-- A key is an option of user mappings, and of nothing else.
CREATE SERVER q FOREIGN DATA WRAPPER vector_embed_qdrant OPTIONS (url 'http://127.0.0.1:1', api_key 'secret');
CREATE SERVER q FOREIGN DATA WRAPPER vector_embed_qdrant OPTIONS (url 'http://127.0.0.1:1', retries '0');
CREATE FOREIGN TABLE notes (id text) SERVER q OPTIONS (api_key 'secret');
CREATE FOREIGN TABLE notes (id text OPTIONS (api_key 'secret')) SERVER q;
CREATE USER MAPPING FOR CURRENT_USER SERVER q OPTIONS (password 'secret');
CREATE USER MAPPING FOR CURRENT_USER SERVER q OPTIONS (api_key 'two words');
CREATE USER MAPPING FOR CURRENT_USER SERVER q OPTIONS (api_key 'secret');
ALTER USER MAPPING FOR CURRENT_USER SERVER q OPTIONS (SET api_key 'another');

-- Nobody listens there.
CREATE FOREIGN TABLE notes (id text, embedding vector(8)) SERVER q;
SELECT * FROM notes;
\echo :SQLSTATE
IMPORT FOREIGN SCHEMA public FROM SERVER q INTO public;
\echo :SQLSTATE
ALTER SERVER q OPTIONS (SET url 'http://192.0.2.1:6333');
SELECT * FROM notes;
\echo :SQLSTATE
INSERT INTO notes VALUES ('1');
DROP SERVER q CASCADE;

-- Who names a server or a file.
CREATE ROLE regress_embed_mover;
GRANT USAGE ON FOREIGN DATA WRAPPER vector_embed_qdrant TO regress_embed_mover;
CREATE SERVER q FOREIGN DATA WRAPPER vector_embed_qdrant OPTIONS (url 'http://127.0.0.1:1');
ALTER SERVER q OWNER TO regress_embed_mover;
SET ROLE regress_embed_mover;
CREATE SERVER r FOREIGN DATA WRAPPER vector_embed_qdrant OPTIONS (url 'http://127.0.0.1:1');
CREATE SERVER r FOREIGN DATA WRAPPER vector_embed_qdrant OPTIONS (path '/nowhere');
ALTER SERVER q OPTIONS (SET url 'http://127.0.0.1:2');
ALTER SERVER q OPTIONS (ADD retries '0');
ALTER SERVER q OPTIONS (DROP url, ADD path '/nowhere');
CREATE USER MAPPING FOR CURRENT_USER SERVER q OPTIONS (api_key 'secret');
RESET ROLE;
SELECT srvoptions FROM pg_foreign_server WHERE srvname = 'q';
DROP SERVER q CASCADE;

-- No store.
CREATE SERVER q FOREIGN DATA WRAPPER vector_embed_qdrant OPTIONS (path '/nowhere');
IMPORT FOREIGN SCHEMA collections FROM SERVER q INTO public;
DROP SERVER q;
REVOKE ALL ON FOREIGN DATA WRAPPER vector_embed_qdrant FROM regress_embed_mover;
DROP ROLE regress_embed_mover;
