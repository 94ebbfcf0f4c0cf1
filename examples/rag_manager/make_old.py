#!/usr/bin/env python3
"""Makes what the RAG manager finds: 200 profiles as JSON files, eight of them damaged.

    make_old.py FOLDER

The same files every time. The other services' tables in the shared database are made by shared.sql.
"""

import json
import sys
from pathlib import Path

FIELDS = [
    ("gardening", "a greenhouse keeper", "grows tomatoes, herbs and dwarf fruit trees on a roof"),
    ("sailing", "a skipper", "plans coastal passages and teaches knots and tides"),
    ("bread", "a baker", "keeps three sourdough starters and mills grain at home"),
    ("astronomy", "an observer", "photographs nebulae from a dark valley"),
    ("databases", "an administrator", "tunes slow queries and restores backups on Fridays"),
    ("bicycles", "a mechanic", "builds wheels and repairs hub gears"),
    ("choirs", "a conductor", "rehearses old polyphony with forty amateurs"),
    ("maps", "a cartographer", "draws relief by hand and collects survey sheets"),
    ("first aid", "a paramedic", "trains volunteers for mountain rescue"),
    ("chess", "a trainer", "writes puzzles about endgames with rooks"),
]
RUSSIAN = {
    "astronomy": "Много лет снимает туманности в тёмной долине и ведёт журнал наблюдений.",
    "choirs": "Репетирует старинную полифонию с сорока любителями и пишет переложения.",
}
STYLES = ["short and dry", "warm, with many examples", "precise, numbers first", "asks back before answering"]
NAMES = ["Ada", "Boris", "Chiara", "Дарья", "Emeka", "Fatima", "Глеб", "Hana", "Ilse", "José"]


def profile(number: int) -> dict:
    topic, role, work = FIELDS[number % len(FIELDS)]
    second = FIELDS[(number * 7 + 3) % len(FIELDS)][0]
    return {
        "user_id": f"user-{number:03d}",
        "name": f"{NAMES[number % len(NAMES)]} {chr(65 + number % 26)}.",
        "personality": f"Patient, curious about {second}.",
        "background": RUSSIAN.get(topic) or f"For {2 + number % 30} years {role} who {work}.",
        "expertise": [topic, second],
        "communication_style": STYLES[number % len(STYLES)],
        "preferences": {"language": "ru" if number % 10 in (3, 6) else "en", "digest": number % 3 == 0},
    }


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(200):
        text = json.dumps(profile(number), ensure_ascii=False, indent=1)
        (folder / f"user_{number:03d}.json").write_text(text, encoding="utf-8")

    def damage(number: int, content: bytes) -> None:
        (folder / f"user_{number:03d}.json").write_bytes(content)

    good = {number: (folder / f"user_{number:03d}.json").read_bytes() for number in range(200)}
    damage(11, good[11][:60])  # cut by a full disk
    damage(22, b"")
    damage(33, good[33].replace(b"Patient", b"Pat\xffient"))  # not UTF-8
    damage(44, good[44].replace(b"user-044", b""))  # no user_id
    damage(55, good[55].replace(b"user-055", b"user-054"))  # somebody else's
    damage(66, good[66].replace(b"Patient", b"Pat\\u0000ient"))  # a NUL, which jsonb refuses
    damage(77, b"[" + good[77] + b"]")  # not an object
    damage(88, good[88].replace(b'"expertise": [', b'"expertise": "many",\n "former": ['))  # a string, not a list
    damage(99, b"\xef\xbb\xbf" + good[99])  # a byte order mark: readable all the same


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write(Path(sys.argv[1]))
