#!/usr/bin/env python3
"""Does what the application did: opens the directory with chromadb, counts, and asks for vectors.

    open_old.py FOLDER
"""

import sys

import chromadb
from chromadb.config import Settings

client = chromadb.PersistentClient(path=sys.argv[1], settings=Settings(anonymized_telemetry=False))
collection = client.get_collection("video_segments", embedding_function=None)
print("rows:", collection.count())
nearest = collection.query(query_embeddings=collection.get(limit=1, include=["embeddings"])["embeddings"], n_results=3)
print("nearest:", nearest["ids"])
