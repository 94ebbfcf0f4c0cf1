#!/usr/bin/env python3
"""Makes the old store: a Chroma directory of an application that tags videos, and a damaged copy of it.

    make_old.py FOLDER

writes FOLDER/healthy and FOLDER/damaged. Needs chromadb. Vectors are those of all-MiniLM-L6-v2, made by the program that
the environment variable EMBED names: it reads a text from each line and prints its vector as JSON.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import chromadb
from chromadb.config import Settings

SEGMENTS = 400  # of each of three videos: over a thousand in all, so that Chroma has written its index
VIDEOS = {
    "news": ("news.mp4", "Выпуск новостей", ["студия", "диктор", "карта погоды", "репортёр", "пресс-конференция"]),
    "SovKz": ("SovKz.mp4", "Хроника", ["завод", "хлопковое поле", "парад", "школа", "железная дорога"]),
    "AlmaAta": ("AlmaAta.mp4", "Прогулка по городу", ["горы", "рынок", "фонтан", "трамвай", "яблоневый сад"]),
}
ACTIONS = [
    "люди идут слева направо", "камера медленно приближается", "крупный план лица", "говорят двое", "никого нет",
    "играет музыка", "дети смеются", "идёт дождь", "солнце садится", "флаг на ветру",
]
DETAILS = ["утром", "днём", "вечером", "ночью", "зимой", "летом", "осенью", "весной"]
ENGLISH = [
    "A reporter stands in front of the parliament and reads from a sheet.",
    "Snow covers the mountains behind the city.",
    "A woman sells red apples at a market stall.",
    "A tram turns the corner and stops at a crossing.",
    "Workers leave the gate of a factory at the end of their shift.",
]


def segments():
    for video, (path, title, scenes) in VIDEOS.items():
        for index in range(SEGMENTS):
            scene = scenes[index % len(scenes)]
            action = ACTIONS[index // 5 % len(ACTIONS)]
            detail = DETAILS[index // 50 % len(DETAILS)]
            if index % 20 == 7:
                description = f"{ENGLISH[index // 20 % len(ENGLISH)]} ({title}, {index})"
            else:
                description = f"{title}: {scene}, {action}, {detail}, кадр {index}."
            yield f"{video}_{index:04d}", description, {
                "video_name": video,
                "video_path": f"/srv/videos/{path}",
                "segment_index": index,
                "start_time": index * 2.5,
                "end_time": index * 2.5 + 2.5,
                "duration": 2.5,
                "keywords": f"{scene}, {detail}",
                "confidence": ["high", "medium", "low"][index % 3],
                "content_type": "speech" if index % 4 else "music",
            }


def videos():
    for video, (path, _title, _scenes) in VIDEOS.items():
        yield video, {
            "video_path": f"/srv/videos/{path}",
            "language": "ru",
            "video_duration": SEGMENTS * 2.5,
            "total_segments": SEGMENTS,
            "width": 1280,
            "height": 720,
            "fps": 25.0,
            "phase1_status": "completed",
            "phase1_start_time": "2025-11-20T21:05:00+05:00",
            "phase1_segments_created": SEGMENTS,
            # The last one was being analyzed when the application crashed.
            "phase2_status": "in_progress" if video == "AlmaAta" else "completed",
            "phase2_start_time": "2025-11-20T22:40:00+05:00",
            "phase2_segments_analyzed": 130 if video == "AlmaAta" else SEGMENTS,
        }


def embed(texts):
    run = subprocess.run(
        shlex.split(os.environ["EMBED"]), input="\n".join(texts) + "\n", text=True, stdout=subprocess.PIPE, check=True
    )
    return [json.loads(line) for line in run.stdout.splitlines()]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    healthy = folder / "healthy"
    client = chromadb.PersistentClient(path=str(healthy), settings=Settings(anonymized_telemetry=False))
    files = client.create_collection("video_files", embedding_function=None)
    rows = list(videos())
    files.add(ids=[row[0] for row in rows], metadatas=[row[1] for row in rows], embeddings=[[0.0]] * len(rows))
    collection = client.create_collection("video_segments", embedding_function=None, metadata={"hnsw:space": "cosine"})
    rows = list(segments())
    vectors = embed([row[1] for row in rows])
    for start in range(0, len(rows), 100):
        part = rows[start : start + 100]
        collection.add(
            ids=[row[0] for row in part],
            documents=[row[1] for row in part],
            metadatas=[row[2] for row in part],
            embeddings=vectors[start : start + 100],
        )

    # What a full disk leaves of the index when it is written: files that end early. chromadb does not open it any more.
    shutil.copytree(healthy, folder / "damaged")
    index = max((folder / "damaged").glob("*/data_level0.bin"), key=lambda file: file.stat().st_size).parent
    for name in ("data_level0.bin", "index_metadata.pickle"):
        file = index / name
        os.truncate(file, file.stat().st_size * 2 // 5)


if __name__ == "__main__":
    if len(sys.argv) != 2 or "EMBED" not in os.environ:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
