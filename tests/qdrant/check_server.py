"""check_server.py PORT EXPECTED: the real client reads the substitute for a server, page by page, and gets what a local
store gives it."""

import json
import sys

from qdrant_client import QdrantClient

client = QdrantClient(url=f"http://127.0.0.1:{sys.argv[1]}", check_compatibility=False)
with open(sys.argv[2], encoding="utf-8") as file:
    expected = json.load(file)
names = sorted(collection.name for collection in client.get_collections().collections)
assert names == sorted(expected), names
for collection, points in expected.items():
    assert client.get_collection(collection).points_count == len(points), collection
    found, offset, pages = {}, None, 0
    while True:
        page, offset = client.scroll(collection, limit=100, offset=offset, with_payload=True, with_vectors=True)
        pages += 1
        for point in page:
            told = json.loads(point.model_dump_json())
            assert str(point.id) not in found, point.id
            found[str(point.id)] = {"payload": point.payload, "vector": told["vector"]}
        if offset is None:
            break
    assert found == points, collection
    assert pages == max(1, -(-len(points) // 100)), pages
ids = [1, 2, "00000000-0000-0000-0000-000000000003", 123456789]
assert sorted(str(point.id) for point in client.retrieve("notes", ids)) == sorted(map(str, ids[:3]))
