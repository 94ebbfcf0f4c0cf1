-- Cutting texts into chunks.
CREATE VIEW chunk_texts AS
SELECT kind, text, CASE kind WHEN 'markdown' THEN 'markdown' ELSE 'text' END AS format
FROM (VALUES
    ('markdown', E'# Bread\n\nFlour, water, salt and time.\n\n## Dough\n\n1. Mix everything.\n2. Wait for *eight* hours.\n\n```sh\n# not a heading\nknead --long dough\n```\n\n## Oven\n\nAs hot as it gets. | steam | helps |\n'),
    ('plain', E'The ferry leaves at nine. It takes an hour to cross the lake, if the wind is kind.\n\nOn the other side there is an inn. Nobody has seen its landlord for years.'),
    ('code', E'def area(shape):\n    """The area of a shape."""\n    if shape.kind == "circle":\n        return PI * shape.radius ** 2\n    return shape.width * shape.height\n\n\nclass Shape:\n    kind = "square"\n'),
    ('chinese', '渡船九点出发。如果风向合适，过湖需要一个小时。对岸有一家旅店，多年来没有人见过店主。店里的茶很香，窗外是湖水和远山。'),
    ('russian', 'Паром отходит в девять. Чтобы переплыть озеро, нужен час, если ветер добр. На том берегу стоит трактир, хозяина которого никто не видел много лет.'),
    ('emoji', 'Boats 🚣🏽‍♀️ on the lake 🏞️ and flags 🇨🇭🇩🇪 in the wind; cafe' || U&'\0301' || ' and naïve Zoë.')
) AS texts (kind, text);

-- How wide an emoji is, versions of psql do not agree about.
\a
SELECT kind, c.* FROM chunk_texts, vector_embed.chunk(text, max_tokens => 24, format => format) AS c
ORDER BY kind, chunk_index;
\a
-- What is promised holds for all of them, whatever the size and the overlap.
SELECT kind, max_tokens, overlap, count(*) > 0 AS any,
       bool_and(substr(text, start_char, char_count) = content) AS same,
       bool_and(token_count <= max_tokens AND token_count = vector_embed.token_count(content)) AS fits,
       bool_and(char_count = char_length(content)) AS counted,
       bool_and(chunk_index = n - 1) AS numbered
FROM chunk_texts, (VALUES (12, 0), (12, 4), (40, 0), (40, 10), (256, 0)) AS sizes (max_tokens, overlap),
     vector_embed.chunk(text, max_tokens => max_tokens, overlap_tokens => overlap, format => format)
         WITH ORDINALITY AS c (chunk_index, content, start_char, char_count, token_count, n)
GROUP BY kind, max_tokens, overlap ORDER BY kind, max_tokens, overlap;
-- Nothing but blanks is lost.
SELECT kind, string_agg(regexp_replace(content, '\s', '', 'g'), '' ORDER BY chunk_index)
             = regexp_replace(text, '\s', '', 'g') AS complete
FROM chunk_texts, vector_embed.chunk(text, max_tokens => 20, format => format)
GROUP BY kind, text ORDER BY kind;

-- The limit is the model's where none is given.
SELECT count(*), max(token_count) > 200 AS large, max(token_count) <= 256 AS fits
FROM vector_embed.chunk(repeat('Rain falls on the hills, and the river carries it away. ', 200));
SELECT count(*), max(token_count) FROM vector_embed.chunk(repeat('word ', 1000), 'all-MiniLM-L6-v2', 256);
-- No text, no chunks.
SELECT count(*) FROM vector_embed.chunk(NULL);
SELECT count(*) FROM vector_embed.chunk('');
SELECT count(*) FROM vector_embed.chunk(E' \n\t\r\n' || U&'\3000\00a0');
-- NULL elsewhere is what is used where nothing is given.
SELECT * FROM vector_embed.chunk('A text.', NULL, NULL, NULL, NULL);
-- A word is cut only where it does not fit.
SELECT content FROM vector_embed.chunk('short words and ' || repeat('antidisestablishment', 5) || ' and an end',
                                       max_tokens => 16);

-- A log of five megabytes: every chunk is in its place, and whole lines.
CREATE TEMPORARY TABLE log AS
SELECT string_agg(format('2026-01-%s %s:%s:%s worker-%s job %s took %s ms', to_char(1 + n / 86400, 'FM00'),
                         to_char(n / 3600 % 24, 'FM00'), to_char(n / 60 % 60, 'FM00'), to_char(n % 60, 'FM00'),
                         n % 7, n * 7919 % 1000003, n % 331), E'\n' ORDER BY n) AS body
FROM generate_series(1, 98000) AS n;
SELECT length(body) > 5 * 1000 * 1000 AS megabytes FROM log;
CREATE TEMPORARY TABLE log_chunks AS SELECT c.* FROM log, vector_embed.chunk(body) AS c;
SELECT max(token_count) <= 256 AS fits, count(*) > 5000 AS many, bool_and(content ~ '^2026-01-\d\d .* ms$') AS whole_lines,
       sum(char_count) + count(*) - 1 = (SELECT length(body) FROM log) AS complete
FROM log_chunks;
SELECT bool_and(substr(body, start_char, char_count) = content) AS same
FROM log, log_chunks WHERE chunk_index % 500 = 0;
-- A word of a megabyte ends, too.
SELECT count(*) BETWEEN 100 AND 1000 AS parts, max(char_count) <= 254 * 32 AS bounded
FROM vector_embed.chunk(repeat('0123456789abcdef', 65536));

-- In other places than FROM, and with rows that are not all read.
SELECT (vector_embed.chunk('One sentence. Another sentence.', max_tokens => 6)).content;
SELECT content FROM log, vector_embed.chunk(body) LIMIT 1;
SELECT kind, chunk_index FROM chunk_texts CROSS JOIN LATERAL vector_embed.chunk(text, format => format)
WHERE kind IN ('code', 'plain') ORDER BY kind;

-- What cannot be.
\set SHOW_CONTEXT never
SELECT * FROM vector_embed.chunk('text', max_tokens => 0);
\echo :SQLSTATE
SELECT * FROM vector_embed.chunk('text', max_tokens => -5);
\echo :SQLSTATE
SELECT * FROM vector_embed.chunk('text', overlap_tokens => -1);
\echo :SQLSTATE
SELECT * FROM vector_embed.chunk('text', max_tokens => 257);
\echo :SQLSTATE
SELECT * FROM vector_embed.chunk('text', max_tokens => 2);
\echo :SQLSTATE
SELECT * FROM vector_embed.chunk('text', max_tokens => 20, overlap_tokens => 18);
\echo :SQLSTATE
SELECT * FROM vector_embed.chunk('text', format => 'html');
\echo :SQLSTATE
SELECT * FROM vector_embed.chunk('text', 'no-such-model');
\echo :SQLSTATE
SELECT * FROM vector_embed.chunk('text', '../model');
\echo :SQLSTATE
SELECT * FROM vector_embed.chunk(repeat('x', 67104769));
\echo :SQLSTATE
