"""Makes Chroma directories with the chromadb that runs this, and writes down what must be read from them.

    make_stores.py make DIR             DIR/small, DIR/synced and what they hold: DIR/small.json, DIR/synced.json
    make_stores.py upgrade FROM TO      copies a directory `synced` of another version and writes on: TO, TO.json
    make_stores.py write DIR            writes rows to DIR until standard input ends; prints how many there are

Embeddings are drawn from a seeded generator, so nothing is downloaded and every run writes the same.
"""

import json
import os
import random
import shutil
import sys

import chromadb
import numpy
from chromadb.config import Settings

VERSION = chromadb.__version__
LISTS = VERSION.startswith("1.5")  # metadata values may be lists since then
REMOVES = VERSION.startswith("1.")  # an update with None removes a key
DIMENSIONS = 24


def settings(path):
    return Settings(anonymized_telemetry=False, is_persistent=True, persist_directory=path, allow_reset=False)


def connect(path, tenant="default_tenant", database="default_database"):
    return chromadb.PersistentClient(
        path=path, settings=Settings(anonymized_telemetry=False), tenant=tenant, database=database
    )


def findable(collection, ids):
    """The rows that a search finds. Chroma 0.4 does not find all that it has, some that were deleted and added again."""
    if not VERSION.startswith("0.4"):
        return ids
    found = collection.query(query_embeddings=[[1.0] * DIMENSIONS], n_results=len(ids), include=["distances"])
    return found["ids"][0]


class Model:
    """What a collection holds by Chroma's rules, beside what chromadb itself says later."""

    def __init__(self, collection, space, seed):
        self.collection, self.space = collection, space
        self.vectors = {}
        self.random = random.Random(seed)

    def vector(self):
        # Of any length: collections by cosine keep the direction alone in their index.
        scale = self.random.uniform(0.5, 2.0)
        return [float(numpy.float32(self.random.gauss(0, 1) * scale)) for _ in range(DIMENSIONS)]

    def vectors_for(self, ids):
        return [self.vector() for _ in ids]

    def add(self, ids, documents=None, metadatas=None, **more):
        vectors = self.vectors_for(ids)
        self.collection.add(ids=ids, embeddings=vectors, documents=documents, metadatas=metadatas, **more)
        for id_, vector in zip(ids, vectors):
            self.vectors.setdefault(id_, vector)  # an id that is there already is left alone

    def upsert(self, ids, documents=None, metadatas=None):
        vectors = self.vectors_for(ids)
        self.collection.upsert(ids=ids, embeddings=vectors, documents=documents, metadatas=metadatas)
        self.vectors.update(zip(ids, vectors))

    def update(self, ids, documents=None, metadatas=None, vectors=True):
        new = self.vectors_for(ids) if vectors else None
        self.collection.update(ids=ids, embeddings=new, documents=documents, metadatas=metadatas)
        if vectors:
            self.vectors.update((i, v) for i, v in zip(ids, new) if i in self.vectors)

    def delete(self, ids):
        self.collection.delete(ids=ids)
        for id_ in ids:
            self.vectors.pop(id_, None)

    def expectation(self, tenant, database):
        """chromadb's own answers. Where it fails on its own directory, that is written down instead."""
        collection = self.collection
        got = collection.get(include=["documents", "metadatas", "uris"])
        rows = {}
        for i, id_ in enumerate(got["ids"]):
            uris = got.get("uris")
            rows[id_] = {
                "document": got["documents"][i],
                "metadata": got["metadatas"][i],
                "uri": uris[i] if uris else None,
                "vector": self.vectors[id_],
            }
        assert set(rows) == set(self.vectors), set(rows) ^ set(self.vectors)
        answer = {
            "tenant": tenant,
            "database": database,
            "name": collection.name,
            "id": str(collection.id),
            "space": self.space,
            "metadata": collection.metadata,
            "rows": rows,
            "findable": [],
            "rankings": [],
        }
        if rows:
            answer["findable"] = findable(collection, list(rows))
            chooser = random.Random(7)
            for _ in range(10):
                query = [float(numpy.float32(chooser.gauss(0, 1))) for _ in range(DIMENSIONS)]
                found = collection.query(query_embeddings=[query], n_results=min(10, len(rows)), include=["distances"])
                answer["rankings"].append({"query": query, "nearest": found["ids"][0]})
        return answer


def collection(client, name, space, seed, **metadata):
    # A search that looks at every row, so that its ranking is exact.
    metadata = {"hnsw:space": space, "hnsw:search_ef": 5000, "hnsw:construction_ef": 200, **metadata}
    return Model(client.create_collection(name, metadata=metadata, embedding_function=None), space, seed)


def in_batches(ids, size=500):
    return [ids[i : i + size] for i in range(0, len(ids), size)]


def small(path):
    """Every kind of value, several databases, nothing synced yet."""
    os.mkdir(path)
    admin = chromadb.AdminClient(settings(path))
    admin.create_database("archive")
    admin.create_tenant("second")
    admin.create_database("default_database", "second")
    client = connect(path)
    models = []

    types = collection(client, "types", "cosine", 1, about="every kind of value", number=3, ratio=0.5)
    metadatas = [
        {"text": "plain", "number": 1, "ratio": 0.25, "yes": True, "no": False},
        {"text": "", "number": 9223372036854775807, "ratio": -1e300, "big": 9007199254740993},
        {"text": "quote \" backslash \\ newline \n tab \t", "number": -9223372036854775808, "ratio": 1e-300},
        {"text": "Привет, 世界 🎬", "ключ": "значение", "ratio": 3.0, "zero": 0.0},
        {"only": True},
        None,
        {"chroma_like": "chroma:document", "text": "in the index"},
        {"0": "a key of digits", "a.b": "a dot", " ": "a blank"},
    ]
    documents = ["first", "", "line\nbreak", "Привет, 世界 🎬", None, "no metadata", "a" * 100_000, "'; DROP TABLE x; --"]
    ids = [f"id-{i}" for i in range(len(documents))]
    for id_, document, metadata in zip(ids, documents, metadatas):
        types.add([id_], documents=None if document is None else [document], metadatas=None if metadata is None else [metadata])
    types.add(["идентификатор 1"], documents=["an id of other letters"])
    if LISTS:
        types.add(
            ["lists"],
            documents=["lists"],
            metadatas=[{"words": ["b", "a", "ü"], "numbers": [3, 1, 2], "ratios": [0.5, 1.5], "flags": [True, False], "one": ["x"]}],
        )
    models.append((types, "default_tenant", "default_database"))

    nul = collection(client, "nul", "l2", 2)
    nul.add(["nul"], documents=["before\0after"], metadatas=[{"text": "be\0fore", "plain": "x"}])
    nul.add(["plain"], documents=["no such byte"])
    models.append((nul, "default_tenant", "default_database"))

    changes = collection(client, "changes", "ip", 3)
    changes.add([f"c{i}" for i in range(40)], [f"text {i}" for i in range(40)], [{"n": i, "kept": True} for i in range(40)])
    changes.add(["c1", "new"], ["ignored", "new"], [{"n": -1}, {"n": 40}])
    changes.update(["c2", "missing"], ["changed", "ignored"], [{"n": 200}, {"n": 1}])
    merged = {"more": "merged", "kept": None} if REMOVES else {"more": "merged"}
    changes.update(["c4"], None, [merged], vectors=False)
    changes.upsert(["c5", "upserted"], ["upserted over", "upserted new"], [{"n": 500}, {"n": 501}])
    changes.delete(["c6", "c7", "c8"])
    changes.add(["c7"], ["added again"], [{"n": 7}])
    changes.upsert(["c8"], ["upserted again"], [{"n": 8}])
    changes.delete(["c8"])
    changes.add(["c8"], ["and again"], [{"n": 88}])
    models.append((changes, "default_tenant", "default_database"))

    empty = Model(client.create_collection("empty", embedding_function=None), "l2", 4)
    models.append((empty, "default_tenant", "default_database"))
    named = collection(client, "collections", "l2", 5)
    named.add(["x"], ["named as the table of collections"])
    models.append((named, "default_tenant", "default_database"))

    for tenant, database, seed in [("default_tenant", "archive", 6), ("second", "default_database", 7)]:
        other = collection(connect(path, tenant, database), "types", "l2", seed)
        other.add([f"{database}-{i}" for i in range(5)], [f"{tenant} {database} {i}" for i in range(5)])
        models.append((other, tenant, database))
    return models


def synced(path):
    """Enough rows that Chroma has written its index and, where it does so, purged its queue."""
    os.mkdir(path)
    client = connect(path)
    models = []
    # Two collections written in turns: one queue holds both.
    for name, space, seed in [("segments", "cosine", 11), ("euclid", "l2", 12), ("product", "ip", 13)]:
        more = {} if name == "segments" else {"hnsw:batch_size": 50, "hnsw:sync_threshold": 200}
        if space == "ip":
            more["hnsw:M"] = 64  # with fewer links, some rows are never found by this distance
        model = collection(client, name, space, seed, **more)
        count = 2990 if name == "segments" else 430
        ids = [f"{name}-{i:05}" for i in range(count)]
        for batch in in_batches(ids):
            model.add(batch, [f"document of {i}" for i in batch], [{"row": i, "even": len(i) % 2 == 0} for i in batch])
        chooser = random.Random(seed)
        for _ in range(20):
            some = chooser.choice(sorted(model.vectors))
            what = chooser.randrange(5)
            if what == 0:
                model.update([some], ["updated"], [{"updated": True}])
            elif what == 1:
                model.upsert([some], ["upserted"], [{"upserted": 1.5}])
            elif what == 2:
                model.delete([some])
            elif what == 3:
                model.delete([some])
                model.add([some], ["added again"], [{"again": True}])
            else:
                model.add([some, f"late-{chooser.randrange(10**6)}"], ["ignored", "late"], [{"x": 1}, {"x": 2}])
        models.append((model, "default_tenant", "default_database"))
    return models


def write_expectation(path, models):
    rows = {"version": VERSION, "collections": [model.expectation(tenant, database) for model, tenant, database in models]}
    with open(path, "w") as file:
        json.dump(rows, file)


def make(directory):
    os.makedirs(directory)
    for name, maker in [("small", small), ("synced", synced)]:
        write_expectation(f"{directory}/{name}.json", maker(f"{directory}/{name}"))


def upgrade(source, target):
    shutil.copytree(source, target)
    with open(source + ".json") as file:
        before = json.load(file)
    client = connect(target)
    models = []
    for old in before["collections"]:
        model = Model(client.get_collection(old["name"], embedding_function=None), old["space"], 21)
        model.vectors = {id_: row["vector"] for id_, row in old["rows"].items()}
        ids = sorted(model.vectors)
        model.upsert(ids[:3], ["upserted after the upgrade"] * 3, [{"after": True}] * 3)
        model.delete(ids[3:6])
        model.add(["after-1", "after-2"], ["new after the upgrade"] * 2, [{"after": True}] * 2)
        models.append((model, old["tenant"], old["database"]))
    write_expectation(target + ".json", models)


def write(directory):
    model = collection(connect(directory), "busy", "l2", 31, **{"hnsw:batch_size": 20, "hnsw:sync_threshold": 60})
    count = 0
    os.set_blocking(sys.stdin.fileno(), False)
    while sys.stdin.buffer.read(1) != b"":
        ids = [f"busy-{i:06}" for i in range(count, count + 7)]
        model.add(ids, [f"text of {i}" for i in ids], [{"id": i} for i in ids])
        count += 7
        print(count, flush=True)


if __name__ == "__main__":
    {"make": make, "upgrade": upgrade, "write": write}[sys.argv[1]](*sys.argv[2:])
