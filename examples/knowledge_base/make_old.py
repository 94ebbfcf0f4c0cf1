#!/usr/bin/env python3
"""Makes the old stores of a knowledge base: an SQLite file and a local store of Qdrant.

    make_old.py FOLDER

writes FOLDER/kb_users_chats.db and FOLDER/qdrant, the same every time. Needs qdrant-client. Vectors are those of
all-MiniLM-L6-v2, made by the program that the environment variable EMBED names: it reads a text from each line and prints
its vector as JSON.
"""

import json
import os
import shlex
import sqlite3
import subprocess
import sys
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path

from qdrant_client import QdrantClient, models

START = datetime(2025, 1, 6, 8, 0, tzinfo=timezone.utc)
USERS = 12
SESSIONS = 60
MESSAGES = 480
LOGS = 240
SYNCS = 24
CHUNKS = 50  # of each document; the last user has three in all

# What the documents say. Each user has one; the one after the last belongs to a user who was deleted.
DOCUMENTS = (
    ("handbook.pdf", "Employees accrue two days of paid vacation each month.", "Expense receipts are due by the fifth."),
    ("Kitchen notes", "Feed the sourdough starter with equal parts of flour and water.", "Salt is added after the first rest."),
    ("network.md", "The firewall drops packets that no rule allows.", "Switches in the basement are restarted on Sundays."),
    ("Garden", "Tomato seedlings move outdoors after the last frost.", "Slugs are collected by torchlight."),
    ("contract.docx", "Either party may terminate with ninety days of notice.", "Late payment bears interest at four percent."),
    ("Physiotherapy", "The knee is bent slowly, ten times each morning.", "Ice helps against swelling in the first two days."),
    ("astronomy.pdf", "Jupiter's moons change their places from night to night.", "A red lamp spares eyes used to the dark."),
    ("Bicycle", "Worn brake pads squeal before they stop gripping.", "The chain is cleaned before it is oiled."),
    ("lease.pdf", "The landlord returns the deposit within six weeks.", "Pets need written consent."),
    ("Choir", "The altos enter two bars after the tenors.", "Breathe before the long phrase, not in it."),
    ("budget.xlsx", "Savings cover three months of rent.", "The electricity bill doubled in winter."),
    ("First steps", "A new notebook is shared by its link.", "Pages are exported as Markdown."),
    ("old.pdf", "The lighthouse was lit by oil until the road was built.", "The ferry leaves at five."),
)
PLACES = ("Lisbon", "Oslo", "Lagos", "Lima", "Osaka", "Bergen", "Tallinn")

SCHEMA = """
CREATE TABLE users (
    id INTEGER PRIMARY KEY,
    user_id VARCHAR NOT NULL UNIQUE,
    email VARCHAR NOT NULL UNIQUE,
    hashed_password VARCHAR NOT NULL,
    is_active BOOLEAN DEFAULT 1,
    notion_token TEXT,
    created_at DATETIME,
    updated_at DATETIME
);
CREATE TABLE chat_sessions (
    id INTEGER PRIMARY KEY,
    session_id VARCHAR NOT NULL UNIQUE,
    user_id VARCHAR REFERENCES users (user_id),
    title VARCHAR,
    created_at DATETIME,
    updated_at DATETIME
);
CREATE TABLE chat_messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id VARCHAR REFERENCES chat_sessions (session_id),
    role VARCHAR NOT NULL,
    content TEXT NOT NULL,
    sources JSON,
    created_at DATETIME
);
CREATE TABLE usage_logs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id VARCHAR REFERENCES users (user_id),
    action VARCHAR NOT NULL,
    tokens INTEGER,
    metadata JSON,
    created_at DATETIME
);
CREATE TABLE notion_syncs (
    id INTEGER PRIMARY KEY,
    user_id VARCHAR REFERENCES users (user_id),
    page_id VARCHAR,
    status VARCHAR,
    pages_synced INTEGER,
    started_at DATETIME,
    finished_at DATETIME,
    error TEXT
);
"""

# What is wrong, by table, id and column. Bytes are stored as they are, as text.
DIRTY = {
    ("users", 3, "is_active"): "yes",
    ("users", 4, "is_active"): "False",
    ("users", 5, "is_active"): 2,
    ("users", 6, "created_at"): "last spring",
    ("users", 7, "updated_at"): "",
    ("chat_sessions", 9, "user_id"): "user-gone",
    ("chat_sessions", 10, "updated_at"): "",
    ("chat_messages", 100, "sources"): '[{"chunk_id": "handbook.pdf',
    ("chat_messages", 101, "created_at"): "just now",
    ("chat_messages", 102, "content"): b"What about\0 the deposit?",
    ("chat_messages", 103, "session_id"): "session-9999",
    ("usage_logs", 20, "tokens"): "n/a",
    ("usage_logs", 21, "metadata"): "{'model': 'small'}",
    ("usage_logs", 22, "created_at"): "2025-02-30 10:00:00",
    ("usage_logs", 23, "user_id"): "user-gone",
    ("usage_logs", 24, "user_id"): None,
    ("notion_syncs", 5, "pages_synced"): "12 pages",
    ("notion_syncs", 6, "finished_at"): "",
    ("notion_syncs", 7, "user_id"): "user-gone",
}


def user(n):
    return f"user-{n:02}"


def moment(n, minutes=0):
    """A time as one of the application's versions wrote it."""
    at = START + timedelta(hours=7 * n, minutes=minutes)
    return (
        at.strftime("%Y-%m-%d %H:%M:%S"),
        at.strftime("%Y-%m-%d %H:%M:%S.%f"),
        at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        at.astimezone(timezone(timedelta(hours=2))).isoformat(),
        int(at.timestamp()),
    )[n % 5]


def insert(db, table, **row):
    for column in row:
        row[column] = DIRTY.get((table, row["id"], column), row[column])
    values = ", ".join("CAST(? AS TEXT)" if isinstance(value, bytes) else "?" for value in row.values())
    db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({values})", list(row.values()))


def fill(db):
    db.executescript(SCHEMA)
    for n in range(1, USERS + 1):
        insert(db, "users", id=n, user_id=user(n), email=f"{user(n)}@example.org", hashed_password=f"$2b$12${n:053}",
               is_active=1, notion_token=f"secret_{n:04}" if n % 2 else None, created_at=moment(n), updated_at=moment(n, 9))
    for n in range(1, SESSIONS + 1):
        insert(db, "chat_sessions", id=n, session_id=f"session-{n:04}", user_id=user((n - 1) % USERS + 1),
               title=f"Question {n}", created_at=moment(n), updated_at=moment(n, 30))
    # Ten more that were deleted again: AUTOINCREMENT does not give their ids a second time.
    for n in range(1, MESSAGES + 11):
        session = (n - 1) // 8 % SESSIONS
        name, first, second = DOCUMENTS[session % USERS]
        insert(db, "chat_messages", id=n, session_id=f"session-{session + 1:04}", role="user" if n % 2 else "assistant",
               content=f"What does {name} say? ({n})" if n % 2 else f"{first if n % 4 else second} ({n})",
               sources=None if n % 2 else json.dumps([{"chunk_id": f"{name}#{n % 5}"}]), created_at=moment(session, n % 8))
    db.execute("DELETE FROM chat_messages WHERE id > ?", [MESSAGES])
    for n in range(1, LOGS + 1):
        insert(db, "usage_logs", id=n, user_id=user(n % USERS + 1), action=("chat", "upload", "search")[n % 3],
               tokens=2**32 + n if n == 30 else n * 17, metadata=json.dumps({"model": "small", "ms": n}), created_at=moment(n))
    for n in range(1, SYNCS + 1):
        insert(db, "notion_syncs", id=n, user_id=user((n - 1) % USERS + 1), page_id=f"page-{n}", status="completed",
               pages_synced=n, started_at=moment(n), finished_at=moment(n, 3), error=None)
    db.commit()


def chunks():
    """Payloads by point id."""
    for at, (name, first, second) in enumerate(DOCUMENTS):
        owner = user(at + 1) if at < USERS else "user-gone"
        notion = "." not in name
        count = 3 if at == USERS - 1 else 5 if at == USERS else CHUNKS
        for n in range(count):
            chunk = f"{name}#{n}"
            place = PLACES[n % len(PLACES)]
            said = (first, second, f"{first} {second}")[n % 3]
            yield str(uuid.uuid5(uuid.NAMESPACE_URL, chunk)), {
                "chunk_id": chunk,
                "user_id": owner,
                "text": f"{name}, part {n + 1}, written in {place}: {said}",
                # One version stored an object, an older one its text.
                "metadata": {"title": name, "page": n} if n % 2 else json.dumps({"title": name, "page": n}),
                "source_type": "notion" if notion else "file",
                "source_id": f"page-{at}" if notion else name,
                "source_url": f"https://notion.so/page-{at}" if notion else None,
                "chunk_index": n,
                "created_at": moment(at * 50 + n),
                "updated_at": moment(at * 50 + n, 5),
            }


def points():
    found = dict(chunks())
    by_chunk = {payload["chunk_id"]: payload for payload in found.values()}
    by_chunk["handbook.pdf#7"]["metadata"] = '{"title": "handbook'
    by_chunk["handbook.pdf#8"]["created_at"] = "yesterday"
    by_chunk["handbook.pdf#9"]["chunk_index"] = "tenth"
    by_chunk["network.md#3"].pop("chunk_id")  # the first version had none
    by_chunk["network.md#4"].pop("text")
    by_chunk["network.md#5"].pop("user_id")
    by_chunk["Choir#2"]["language"] = "pt"  # a later version wrote that, for a week
    # An upload that was interrupted and made again, under another id.
    found["1"] = {**by_chunk["budget.xlsx#1"], "updated_at": "2024-12-31T00:00:00Z"}
    return found


def embed(texts):
    run = subprocess.run(
        shlex.split(os.environ["EMBED"]), input="\n".join(texts) + "\n", text=True, stdout=subprocess.PIPE, check=True
    )
    return [json.loads(line) for line in run.stdout.splitlines()]


def main(folder: Path) -> None:
    folder.mkdir(parents=True)
    db = sqlite3.connect(folder / "kb_users_chats.db")
    fill(db)
    db.close()

    client = QdrantClient(path=str(folder / "qdrant"))
    client.create_collection(
        "knowledgebase", vectors_config=models.VectorParams(size=384, distance=models.Distance.COSINE)
    )
    found = points()
    vectors = embed([payload.get("text", "nothing") for payload in found.values()])
    client.upsert("knowledgebase", [
        models.PointStruct(id=int(point) if point.isdigit() else point, vector=vector, payload=payload)
        for (point, payload), vector in zip(found.items(), vectors, strict=True)
    ])
    client.close()
    (folder / "qdrant" / ".lock").unlink(missing_ok=True)


if __name__ == "__main__":
    if len(sys.argv) != 2 or "EMBED" not in os.environ:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
