#!/usr/bin/env python3
"""Writes which notes of examples/personal_growth are nearest to questions, by sentence-transformers' own vectors.

    top_ten.py MODEL CHUNKS OUT

CHUNKS has a JSON array [note, text] on each line, for every chunk of the example's notes; tests/examples/personal_growth
writes it, and calls this where GOLDEN_PYTHON names a Python that has sentence-transformers. OUT gets a checksum of
CHUNKS and, for each question, the notes of an exact scan in descending order of similarity: the best ten, and those
whose similarity is as good as the tenth's.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from common import encode_each_alone
from sentence_transformers import SentenceTransformer

QUESTIONS = [
    "how to keep a habit", "running in the morning", "a train to the mountains", "saving money", "what did the author say",
    "backups of a database", "怎样坚持每天跑步", "焦虑的时候怎么办", "第 25 周", "不借钱买股票",
]  # fmt: skip
# Of two vectors that are closer the order is chance: this model takes many Chinese texts for the same.
TOLERANCE = 1e-5


def best_ten(notes, similarities):
    best = {}
    for note, similarity in zip(notes, similarities):
        best[note] = max(best.get(note, -1.0), float(similarity))
    ranked = sorted(best.items(), key=lambda item: (-item[1], item[0]))
    tenth = ranked[9][1]
    return [[note, round(similarity, 7)] for note, similarity in ranked if similarity >= tenth - TOLERANCE]


def main(model, chunks, out):
    rows = [json.loads(line) for line in chunks.read_text(encoding="utf-8").splitlines()]
    model = SentenceTransformer(model, device="cpu")
    vectors = encode_each_alone(model, [text for _note, text in rows])
    questions = encode_each_alone(model, QUESTIONS)
    notes = [note for note, _text in rows]
    tops = {question: best_ten(notes, np.asarray(vectors) @ vector) for question, vector in zip(QUESTIONS, questions)}
    lines = [f"    {json.dumps(question, ensure_ascii=False)}: {json.dumps(top)}" for question, top in tops.items()]
    digest = hashlib.sha256(chunks.read_bytes()).hexdigest()
    out.write_text('{\n  "chunks": "%s",\n  "questions": {\n%s\n  }\n}\n' % (digest, ",\n".join(lines)), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
