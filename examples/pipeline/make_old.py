#!/usr/bin/env python3
"""Makes the SQLite database that the pipeline leaves behind: make_old.py FILE

The same database every time, with what years of a loosely typed store bring: sizes beyond 32 bits, text where numbers
belong, times in five notations, bytes that are no text, rows whose parents are gone. The last episode is in the
write-ahead log only, as with an application that runs or was killed.
"""

import json
import os
import sqlite3
import sys
from datetime import datetime, timedelta, timezone

from episodes import SHOWS, transcription

EPISODES = 601
LOG_ENTRIES = 1990
METRICS = 50
START = datetime(2024, 3, 1, 6, 30, tzinfo=timezone.utc)

SCHEMA = """
CREATE TABLE schema_version (
    version INTEGER PRIMARY KEY,
    applied_at DATETIME DEFAULT CURRENT_TIMESTAMP,
    description TEXT
);
CREATE TABLE episodes (
    id TEXT PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    stage TEXT NOT NULL DEFAULT 'discovered',
    source_path TEXT NOT NULL,
    file_size INTEGER,
    duration REAL,
    title TEXT,
    show_name TEXT,
    metadata JSON,
    enrichment JSON,
    transcription TEXT,
    is_processed BOOLEAN DEFAULT 0,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP,
    updated_at DATETIME,
    errors TEXT
);
CREATE TABLE processing_log (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    episode_id TEXT NOT NULL REFERENCES episodes (id),
    stage TEXT NOT NULL,
    status TEXT NOT NULL,
    started_at DATETIME,
    duration_seconds REAL,
    error_message TEXT
);
CREATE TABLE processing_metrics (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    value REAL,
    recorded_at DATETIME
);
CREATE TABLE backup_log (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    path TEXT NOT NULL,
    bytes INTEGER,
    verified BOOLEAN,
    created_at DATETIME
);
CREATE TABLE episode_dependencies (
    episode_id TEXT NOT NULL REFERENCES episodes (id),
    depends_on TEXT NOT NULL REFERENCES episodes (id),
    kind TEXT,
    PRIMARY KEY (episode_id, depends_on)
) WITHOUT ROWID;
CREATE TABLE json_metadata_index (
    episode_id TEXT NOT NULL REFERENCES episodes (id),
    path TEXT NOT NULL,
    value TEXT,
    PRIMARY KEY (episode_id, path)
);
CREATE INDEX episodes_stage ON episodes (stage);
CREATE INDEX processing_log_episode ON processing_log (episode_id);
CREATE VIEW show_overview AS
    SELECT show_name, count(*) AS episodes, sum(stage = 'enriched') AS enriched
    FROM episodes GROUP BY show_name;
"""

# What is wrong, by episode and column. Bytes are stored as they are, as text.
DIRTY = {
    (7, "duration"): "unknown",
    (8, "duration"): "unknown",
    (9, "duration"): "",
    (11, "file_size"): "n/a",
    (20, "is_processed"): "true",
    (21, "is_processed"): "yes",
    (22, "is_processed"): "False",
    (23, "is_processed"): 2,
    (30, "created_at"): "",
    (31, "created_at"): "yesterday",
    (40, "updated_at"): "",
    (41, "updated_at"): "",
    (50, "title"): b"Live\0from the harbour",
    (51, "title"): "Brot für Anfänger".encode("latin-1"),
    (52, "transcription"): "We sat in a café ".encode("latin-1") + b"and talked about the history of lighthouses.",
    (53, "transcription"): b"The tape ends here.\0\0\0",
    (60, "metadata"): '{"codec": "aac", "chapters": [',
    (61, "metadata"): '{"title": "cut \\u0000 here"}',
}


def moment(n, minutes):
    """A time as one of the pipeline's versions wrote it."""
    at = START + timedelta(days=n, minutes=minutes)
    local = at.astimezone(timezone(timedelta(hours=2)))
    return (
        at.strftime("%Y-%m-%d %H:%M:%S"),
        at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] if n % 2 else at.strftime("%Y-%m-%d %H:%M:%S.%f"),
        at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        local.isoformat(),
        int(at.timestamp()),
    )[n // 7 % 5]


def episode(n):
    show = SHOWS[n % len(SHOWS)]
    number = n // len(SHOWS) + 1
    processed = n % 13 != 5
    row = {
        "id": f"ep-{n:04}",
        "hash": f"{n * 2654435761 % 2**32:08x}",
        "stage": "enriched" if processed else "discovered",
        "source_path": f"/media/{show.slug}/{number:03}.mp4",
        "file_size": 700_000_000 + n * 14_563_219,
        "duration": 900 + n % 37 * 61.5,
        "title": f"{show.name} {number}: {show.subjects[number % len(show.subjects)]}",
        "show_name": show.name,
        "metadata": json.dumps({"codec": "h264", "height": 1080 if n % 3 else 720, "show": show.slug}),
        "enrichment": json.dumps({"topics": [show.slug], "confidence": n % 10 / 10}) if processed else None,
        "transcription": transcription(show, number) if processed else None,
        "is_processed": int(processed),
        "created_at": moment(n, 0),
        "updated_at": moment(n, 45) if processed else None,
        "errors": "Connection reset by peer\n  while it was downloaded" if n % 97 == 0 else None,
    }
    for (at, column), value in DIRTY.items():
        if at == n:
            row[column] = value
    return row


def insert(db, table, row):
    values = ", ".join("CAST(? AS TEXT)" if isinstance(value, bytes) else "?" for value in row.values())
    db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({values})", list(row.values()))


def log_entry(n):
    stages = ("discovered", "prepared", "transcribed", "enriched")
    failed = n % 41 == 0
    row = {
        "id": n,
        "episode_id": f"ep-{(n - 1) // 4 * 7 % (EPISODES - 1) + 1:04}",
        "stage": stages[n % 4],
        "status": "failed" if failed else "completed",
        "started_at": moment(n % 500, n % 4 * 15),
        "duration_seconds": n % 90 * 1.25,
        "error_message": "timeout after 90 s" if failed else None,
    }
    if n in (100, 101):
        row["duration_seconds"] = "unknown"
    if n == 200:
        row["started_at"] = ""
    if n in (300, 301):
        row["episode_id"] = "ep-9999"  # deleted by hand: foreign keys were never turned on
    return row


def fill(db):
    db.executescript(SCHEMA)
    for version, description in ((1, "first"), (2, "processing metrics"), (3, "json index")):
        row = {"version": version, "applied_at": moment(version, 0), "description": description}
        insert(db, "schema_version", row)
    for n in range(1, EPISODES):
        insert(db, "episodes", episode(n))
    # Ten more that were deleted again: AUTOINCREMENT does not give their ids a second time.
    for n in range(1, LOG_ENTRIES + 11):
        insert(db, "processing_log", log_entry(n))
    db.execute("DELETE FROM processing_log WHERE id > ?", [LOG_ENTRIES])
    for n in range(1, METRICS + 1):
        value = {17: float("inf"), 18: float("-inf"), 19: "n/a"}.get(n, n * 0.75)
        row = {"id": n, "name": ("queue_length", "throughput")[n % 2], "value": value, "recorded_at": moment(n, 5)}
        insert(db, "processing_metrics", row)
    # Backups are kept for a week, and there has been none lately.
    for n in range(1, 49):
        insert(db, "backup_log", {"path": f"/backup/{n}.db", "bytes": 2**33, "verified": 1, "created_at": moment(n, 0)})
    db.execute("DELETE FROM backup_log")
    for n in range(40, 400, 9):
        row = {"episode_id": f"ep-{n:04}", "depends_on": f"ep-{n - 39:04}", "kind": "sequel"}
        insert(db, "episode_dependencies", row)
    insert(db, "episode_dependencies", {"episode_id": "ep-0001", "depends_on": "ep-9999", "kind": "sequel"})
    for n in range(1, EPISODES, 3):
        row = {"episode_id": f"ep-{n:04}", "path": "$.height", "value": "1080" if n % 3 else "720"}
        insert(db, "json_metadata_index", row)
    db.commit()


def main():
    path = sys.argv[1]
    if os.path.exists(path):
        sys.exit(f"{path} exists already")
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    fill(db)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.execute("PRAGMA wal_autocheckpoint = 0")
    insert(db, "episodes", episode(EPISODES))
    db.commit()
    os._exit(0)  # no connection is closed, so the write-ahead log stays


if __name__ == "__main__":
    main()
