-- For SQLite: the old store that sqlite.sql reads. scripts/regress makes a file of it.
CREATE TABLE shows (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
INSERT INTO shows VALUES (1, 'Harbour Lights'), (2, 'Длинная волна');

CREATE TABLE episodes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    show_id INTEGER REFERENCES shows,
    title VARCHAR(200) NOT NULL,
    is_processed BOOLEAN DEFAULT 0,
    file_size BIGINT,
    duration REAL,
    price DECIMAL(10, 2),
    created_at DATETIME,
    aired DATE,
    metadata JSON,
    cover BLOB,
    note
);
INSERT INTO episodes VALUES
    (1, 1, 'Fog', 1, 8589934592, 61.5, 1.25, '2025-09-01 10:00:00.123456', '2025-09-02', '{"tags": ["sea"]}', x'00ff', 'text'),
    (2, 1, 'Ebb', 'true', 12, 3, 2, '2025-09-01T10:00:00+02:00', '2025-09-03', '[]', x'', 7),
    (3, 2, 'Прилив', 'f', NULL, NULL, NULL, 1756720800, NULL, NULL, NULL, 0.5),
    (4000000000, 2, '', 0, -1, 9e999, 0.1, '2025-12-01T10:00:00Z', '2025-12-01', '1', NULL, NULL);

CREATE TABLE dirty (id INTEGER PRIMARY KEY, n INTEGER, r REAL, b BOOLEAN, t TEXT, at DATETIME, raw BLOB);
INSERT INTO dirty VALUES
    (1, 1, 1.5, 1, 'fine', '2025-09-01', x'01'),
    (2, 'n/a', 'unknown', 2, 'cut' || char(0) || 'off', '', 'text'),
    (3, 2.5, 3, 'maybe', CAST(x'62616420ff' AS TEXT), '2025-02-30', NULL),
    (4, 9e18, 4, 0, 'fine', 'soon', NULL);

CREATE TABLE "Order" ("select" INTEGER, "Mixed Case" TEXT, "a ""quoted"" one" TEXT, ctid TEXT, "" TEXT,
    "a column whose name is longer than sixty-three bytes, which is what PostgreSQL takes" TEXT);
INSERT INTO "Order" VALUES (1, 'mixed', 'quoted', 'system', 'nameless', 'long');
CREATE TABLE settings (key TEXT, part INTEGER, value INTEGER, PRIMARY KEY (key, part)) WITHOUT ROWID;
INSERT INTO settings VALUES ('depth', 1, 10), ('depth', 2, 'deep');
CREATE TABLE computed (a INTEGER, twice INTEGER GENERATED ALWAYS AS (a * 2) VIRTUAL, thrice INTEGER AS (a * 3) STORED);
INSERT INTO computed (a) VALUES (1), (2);
CREATE VIEW processed AS SELECT id, title, length(title) AS letters FROM episodes WHERE is_processed IN (1, 'true');
CREATE VIRTUAL TABLE words USING fts5(word);
INSERT INTO words VALUES ('fog');

CREATE TABLE codes (id INTEGER PRIMARY KEY, code TEXT);
INSERT INTO codes VALUES (1, 'abc'), (2, 'abc  ');
CREATE TABLE "" (x TEXT);
