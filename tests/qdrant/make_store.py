"""make_store.py DIRECTORY: a local store of Qdrant, written by the real qdrant-client, and beside it what its own
scroll gives: expected.json, {collection: {id: {"payload": ..., "vector": ...}}}."""

import json
import sys
import uuid
from pathlib import Path

from qdrant_client import QdrantClient, models

TOPICS = ["gardens", "trains", "bread", "winter", "harbours", "music"]


def number(seed: int) -> float:
    return ((seed * 2654435761) % 2**32) / 2**31 - 1


def vector(seed: int, size: int) -> list[float]:
    return [number(seed * 1000 + at) for at in range(size)]


def note(at: int) -> models.PointStruct:
    identity = at if at % 3 else str(uuid.UUID(int=at))
    payload = {
        "title": f"Note {at} on {TOPICS[at % len(TOPICS)]}",
        "rank": at * 10_000_000_000,
        "score": at / 7,
        "tags": [TOPICS[at % 6], None, at % 2 == 0, {"deep": {"er": ["é", "日本", '"\\']}}],
    }
    return models.PointStruct(id=identity, vector=vector(at, 8), payload=payload)


def main() -> None:
    directory = Path(sys.argv[1])
    store = directory / "store"
    client = QdrantClient(path=str(store))

    client.create_collection("notes", vectors_config=models.VectorParams(size=8, distance=models.Distance.COSINE))
    client.upsert("notes", [note(at) for at in range(1, 1001)])
    client.delete("notes", [7, str(uuid.UUID(int=9))])
    client.upsert("notes", [models.PointStruct(id=1, vector=vector(5000, 8), payload={"title": "written again"})])
    client.upsert("notes", [models.PointStruct(id=2**63 + 5, vector=vector(5001, 8))])  # beyond bigint
    client.upsert("notes", [models.PointStruct(id=2**64 - 1, vector=[0.0] * 8, payload={"huge": 2**70})])
    client.set_payload("notes", {"added": True}, points=[2])

    client.create_collection(
        "Mixed case & more",
        vectors_config={
            "text": models.VectorParams(size=3, distance=models.Distance.DOT),
            "id": models.VectorParams(size=2, distance=models.Distance.EUCLID),
            "tokens": models.VectorParams(
                size=2,
                distance=models.Distance.COSINE,
                multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
            ),
        },
        sparse_vectors_config={"bm25": models.SparseVectorParams()},
    )
    for at in range(1, 41):
        vectors = {"text": vector(at, 3)}
        if at % 2:
            vectors["id"] = vector(at + 100, 2)
        if at % 4 == 0:
            vectors["tokens"] = [vector(at + row, 2) for row in range(3)]
            vectors["bm25"] = models.SparseVector(indices=[3, at + 10], values=[0.25, float(at)])
        client.upsert("Mixed case & more", [models.PointStruct(id=at, vector=vectors, payload={"at": at})])

    client.create_collection("empty", vectors_config=models.VectorParams(size=4, distance=models.Distance.MANHATTAN))
    client.close()

    # What a client says that opens what is there now.
    client = QdrantClient(path=str(store))
    expected = {}
    for collection in ["notes", "Mixed case & more", "empty"]:
        found, offset = {}, None
        while True:
            points, offset = client.scroll(collection, limit=300, offset=offset, with_payload=True, with_vectors=True)
            for point in points:
                told = json.loads(point.model_dump_json())
                found[str(point.id)] = {"payload": point.payload, "vector": told["vector"]}
            if offset is None:
                break
        expected[collection] = found
    client.close()
    (directory / "expected.json").write_text(json.dumps(expected, ensure_ascii=False), encoding="utf-8")


main()
