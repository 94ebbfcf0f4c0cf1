#!/usr/bin/env python3
"""Makes the old store of a notebook for personal growth: a SQLite file, and a Chroma directory beside it.

    make_old.py FOLDER

writes FOLDER/personal_growth_os.db and FOLDER/chroma_data, always the same. Needs chromadb. Vectors are those of
all-MiniLM-L6-v2, made by the program that the environment variable EMBED names: it reads a text from each line and prints
its vector as JSON.
"""

import json
import os
import shlex
import sqlite3
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import chromadb
from chromadb.config import Settings

SCHEMA = """
CREATE TABLE projects (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, name VARCHAR(200) NOT NULL, description TEXT,
    color VARCHAR(7), is_system BOOLEAN DEFAULT 0, created_at DATETIME, updated_at DATETIME);
CREATE TABLE tasks (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, title VARCHAR(500) NOT NULL, description TEXT,
    status VARCHAR(20) DEFAULT 'pending', priority INTEGER, due_date DATETIME, snooze_until DATETIME, start_time DATETIME,
    end_time DATETIME, estimated_hours FLOAT, project_id INTEGER REFERENCES projects (id),
    parent_task_id INTEGER REFERENCES tasks (id), created_at DATETIME, updated_at DATETIME);
CREATE TABLE notes (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, title VARCHAR(500) NOT NULL, content TEXT,
    source_url TEXT, project_id INTEGER REFERENCES projects (id), created_at DATETIME, updated_at DATETIME);
CREATE TABLE tags (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, name VARCHAR(50) NOT NULL UNIQUE, color VARCHAR(7));
CREATE TABLE note_tags (note_id INTEGER NOT NULL REFERENCES notes (id), tag_id INTEGER NOT NULL REFERENCES tags (id),
    PRIMARY KEY (note_id, tag_id));
CREATE TABLE task_tags (task_id INTEGER NOT NULL REFERENCES tasks (id), tag_id INTEGER NOT NULL REFERENCES tags (id),
    PRIMARY KEY (task_id, tag_id));
"""

# Projects: name, what is noted there in Chinese, and in English.
PROJECTS = {
    1: ("健康", ["早上六点起床，沿着河边慢跑五公里。", "晚饭少吃一点，睡前不看手机。", "这周喝水太少，头有点疼。", "膝盖不舒服，改成游泳。", "体检的结果比去年好。"],
        ["A slow run along the river before breakfast clears my head.", "My knee hurts after long runs, so I swim on Tuesdays."]),
    2: ("读书", ["这本书讲的是人怎样学会等待。", "作者认为习惯比意志更重要。", "读到第三章，做了一页笔记。", "图书馆的旧书有一种味道。", "把喜欢的句子抄下来。"],
        ["The novel follows a lighthouse keeper through one winter.", "Habits matter more than willpower, the author says."]),
    3: ("英语", ["今天背了三十个单词，忘了一半。", "跟读新闻二十分钟，发音好一点。", "写邮件的时候总是用错介词。", "看电影不开字幕，听懂七成。", "和外国同事聊天不再紧张。"],
        ["Thirty new words today, and half of them are gone already.", "I read the news aloud to mend my pronunciation."]),
    5: ("编程", ["数据库的索引要在导入之后再建。", "把一个大函数拆成五个小函数。", "测试失败，原因是时区。", "代码评审学到了新的写法。", "备份没有恢复过就不算备份。"],
        ["Build the database index after the rows are loaded.", "A backup that was never restored is no backup."]),
    6: ("理财", ["每个月先存工资的两成。", "记账三个月，发现咖啡花得最多。", "保险要看清条款。", "不借钱买股票。", "旅行的预算单独放一个账户。"],
        ["Save a fifth of the salary before anything is spent.", "Three months of accounts show that coffee costs the most."]),
    7: ("冥想", ["静坐十分钟，只数呼吸。", "焦虑的时候先看看窗外的树。", "生气以后写三行字再说话。", "心里安静，事情就慢下来。", "接受今天没有完成的事。"],
        ["Ten minutes of sitting still, counting nothing but breaths.", "When I am anxious I look at the tree outside first."]),
    8: ("写作", ["每天写五百字，不管好坏。", "开头改了四遍，还是第一遍好。", "题目要短，动词要准。", "把长句拆开再读一遍。", "朋友说结尾太急。"],
        ["Five hundred words a day, good or bad.", "The ending comes too fast, says a friend who read the draft."]),
    11: ("旅行", ["坐夜车去山里看日出。", "行李只带一个背包。", "在小城的市场吃到最好的面。", "下雨天就待在茶馆里。", "地图上标出想去的岛。"],
         ["A night train to the mountains, to see the sun rise.", "The best noodles were at the market of a small town."]),
}  # fmt: skip
TAGS = ["重要", "灵感", "复盘", "待读", "习惯", "健康", "工作", "家庭", "English", "idea"]
START = datetime(2025, 1, 4, 7, 30)
NOTES, TASKS = 501, 300


def moment(number: int) -> str:
    # As SQLAlchemy writes it: UTC, without saying so.
    return (START + timedelta(hours=number * 15, microseconds=number * 1001)).isoformat(" ")


def id_with_gaps(number: int) -> int:
    return number + number // 10  # 10, 21, 32 … were deleted


def note_content(number: int, project: int) -> str | None:
    _name, chinese, english = PROJECTS[project]
    if number % 97 == 0:
        return None
    if number % 101 == 0:
        return ""
    if number % 103 == 0:
        return " \n\t"
    if number % 20 == 9:  # far more than the model reads at once
        return "\n\n".join(
            f"第 {number} 条，第 {part} 周。{chinese[(number + part) % 5]}{chinese[(number + part * 2) % 5]} {english[part % 2]}" for part in range(1, 31)
        )
    if number % 7 == 1:
        return f"{english[number // 7 % 2]} Entry {number}."
    return f"{chinese[number % 5]}{chinese[(number // 5 + 1) % 5]}（第 {number} 条）"


def fill(database: sqlite3.Connection) -> None:
    projects = list(PROJECTS)
    for number, (project, (name, _chinese, _english)) in enumerate(PROJECTS.items()):
        row = (project, name, None if number == 3 else f"{name}计划", f"#{number * 31:06x}", number == 0, moment(0), moment(number))
        database.execute("INSERT INTO projects VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    database.executemany("INSERT INTO tags VALUES (?, ?, ?)", [(2 * i + 1, tag, "#808080") for i, tag in enumerate(TAGS)])
    for number in range(1, TASKS + 1):
        # SQLite did not check: a project and a parent that are gone, priorities that the application never had.
        project = 999 if number in (40, 41, 42, 43) else projects[number % 8]
        parent = 54 if number == 77 else id_with_gaps(number + 1) if number % 25 == 3 else None
        priority = {60: 0, 61: 9}.get(number, number % 5 + 1)
        done = number % 3 == 0
        row = (id_with_gaps(number), f"任务 {number}：{PROJECTS[projects[number % 8]][1][number % 5]}", None if number % 4 else f"Task {number}",
               "completed" if done else "pending", priority, moment(number + 48) if number % 2 else None, None, moment(number),
               moment(number + 1) if done else None, number % 7 * 0.25, project, parent, moment(number), moment(number))  # fmt: skip
        database.execute("INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        database.execute("INSERT INTO task_tags VALUES (?, ?)", (id_with_gaps(number), 2 * (number % 10) + 1))
    for number in range(1, NOTES + 1):
        project = projects[number % 8]
        title = f"{PROJECTS[project][0]}笔记 {number}"
        if number == 50:
            title = "很长的标题" * 120  # VARCHAR(500) means nothing to SQLite
        row = (id_with_gaps(number), title, note_content(number, project), f"https://example.org/{number}" if number % 30 == 0 else None,
               999 if number in (70, 71, 72) else project, moment(number), moment(number + number % 3))  # fmt: skip
        database.execute("INSERT INTO notes VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        database.execute("INSERT INTO note_tags VALUES (?, ?)", (id_with_gaps(number), 2 * (number % 10) + 1))
    # Links of a note, a task and a tag that were deleted.
    database.execute("INSERT INTO note_tags VALUES (10, 1), (1, 4)")
    database.execute("INSERT INTO task_tags VALUES (21, 1)")
    # The last note was deleted; its id is never given again.
    database.execute("INSERT INTO notes (id, title) VALUES (600, 'deleted')")
    database.execute("DELETE FROM notes WHERE id = 600")


def embed(texts):
    lines = "".join(" ".join(text.split()) + "\n" for text in texts)  # this model does not tell blanks apart
    run = subprocess.run(shlex.split(os.environ["EMBED"]), input=lines, text=True, stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in run.stdout.splitlines()]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(folder / "personal_growth_os.db")
    with database:
        database.executescript(SCHEMA)
        fill(database)
    rows = database.execute("SELECT id, title, content FROM notes WHERE trim(content, char(9, 10, 32)) <> '' ORDER BY id").fetchall()
    database.close()

    # Two stores, two truths: the application wrote to one, crashed, and never wrote to the other.
    del rows[200:205]  # never embedded
    entries = [(note, title, f"旧的内容：{content[:20]}" if index in (30, 130, 230, 330) else content)
               for index, (note, title, content) in enumerate(rows)]  # fmt: skip
    entries += [(note, "deleted", f"这条笔记已经删除了（{note}）。") for note in (10, 21, 32)]
    client = chromadb.PersistentClient(path=str(folder / "chroma_data"), settings=Settings(anonymized_telemetry=False))
    collection = client.create_collection("notes", embedding_function=None, metadata={"hnsw:space": "cosine"})
    vectors = embed([content for _note, _title, content in entries])
    for start in range(0, len(entries), 100):
        part = entries[start : start + 100]
        collection.add(
            ids=[f"note_{note}" for note, _title, _content in part],
            documents=[content for _note, _title, content in part],
            metadatas=[{"note_id": note, "title": title} for note, title, _content in part],
            embeddings=vectors[start : start + 100],
        )


if __name__ == "__main__":
    if len(sys.argv) != 2 or "EMBED" not in os.environ:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
