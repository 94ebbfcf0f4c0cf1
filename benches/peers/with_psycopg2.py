"""What a script without the extension does: sentence-transformers computes vectors, psycopg2 stores them.

    with_psycopg2.py MODEL

Where the server is say PGHOST and its relatives.
"""

import io
import os
import sys

from serve import serve


def make():
    os.environ["HF_HUB_OFFLINE"] = "1"
    import psycopg2
    import sentence_transformers
    from psycopg2.extras import execute_values

    model = sentence_transformers.SentenceTransformer(sys.argv[1], device="cpu")
    connection = psycopg2.connect("")
    cursor = connection.cursor()
    insert = "INSERT INTO by_script (id, content, embedding) VALUES"

    def empty():
        """Not timed."""
        cursor.execute("CREATE TABLE IF NOT EXISTS by_script (id bigint PRIMARY KEY, content text, embedding vector(384))")
        cursor.execute("TRUNCATE by_script")
        connection.commit()

    def row_by_row(texts):
        """A text at a time, as scripts are written mostly."""
        for number, text in enumerate(texts):
            embedding = model.encode(text).tolist()
            cursor.execute(f"{insert} (%s, %s, %s)", (number, text, embedding))
        connection.commit()

    def executemany(texts):
        vectors = model.encode(texts, show_progress_bar=False).tolist()
        cursor.executemany(f"{insert} (%s, %s, %s)", zip(range(len(texts)), texts, vectors))
        connection.commit()

    def values(texts):
        vectors = model.encode(texts, show_progress_bar=False).tolist()
        execute_values(cursor, f"{insert} %s", list(zip(range(len(texts)), texts, vectors)))
        connection.commit()

    def copy(texts):
        vectors = model.encode(texts, show_progress_bar=False).tolist()
        lines = io.StringIO()
        for number, (text, vector) in enumerate(zip(texts, vectors)):
            escaped = text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
            lines.write(f"{number}\t{escaped}\t{vector}\n")
        lines.seek(0)
        cursor.copy_expert("COPY by_script (id, content, embedding) FROM STDIN", lines)
        connection.commit()

    def stored():
        """How many rows there are, and the first vector."""
        cursor.execute("SELECT count(*), (SELECT embedding::text FROM by_script WHERE id = 0) FROM by_script")
        count, vector = cursor.fetchone()
        connection.commit()
        return {"count": count, "vector": vector}

    version = f"sentence-transformers {sentence_transformers.__version__}, psycopg2 {psycopg2.__version__.split()[0]}"
    works = {"empty": empty, "row_by_row": row_by_row, "executemany": executemany, "execute_values": values}
    return version, works | {"copy": copy, "stored": stored}


serve(make)
