"""Chroma with its default embedding function, in a directory of its own.

    with_chroma.py DIRECTORY
"""

import os
import sys

from serve import serve


def make():
    os.environ["ANONYMIZED_TELEMETRY"] = "False"
    import chromadb
    import onnxruntime

    client = chromadb.PersistentClient(path=sys.argv[1])
    collections = {}

    def collection(name):
        if name not in collections:
            collections[name] = client.get_or_create_collection(name)
        return collections[name]

    def add(name, ids, texts):
        collection(name).add(ids=ids, documents=texts)

    def add_vectors(name, ids, texts, vectors):
        """With vectors that are there already."""
        collection(name).add(ids=ids, documents=texts, embeddings=vectors)

    def query(name, text, count):
        return collection(name).query(query_texts=[text], n_results=count)["ids"][0]

    def vector(name, id):
        return collection(name).get(ids=[id], include=["embeddings"])["embeddings"][0].tolist()

    version = f"chromadb {chromadb.__version__}, onnxruntime {onnxruntime.__version__}"
    return version, {"add": add, "add_vectors": add_vectors, "query": query, "vector": vector}


serve(make)
