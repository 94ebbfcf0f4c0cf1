"""psycopg2: parameters are put into the statements by the client."""

import io
import threading

import psycopg2
import pytest
from pgvector import Vector
from pgvector.psycopg2 import register_vector
from psycopg2 import errors
from psycopg2.extras import execute_values

from conftest import DISHES, ENDLESS, OVERLONG, SUPPLIED


@pytest.fixture
def connection(database):
    connection = psycopg2.connect(dbname=database)
    register_vector(connection)
    yield connection
    connection.close()


@pytest.fixture
def cursor(connection):
    with connection.cursor() as cursor:
        yield cursor


def one(cursor, statement, *parameters):
    cursor.execute(statement, parameters)
    return cursor.fetchone()


def test_insert_returns_the_vector(connection, cursor, observer):
    body = "Bread needs time."
    (vector,) = one(cursor, "INSERT INTO articles (body) VALUES (%s) RETURNING embedding", body)
    assert observer.is_vector_of(vector, body)
    connection.commit()
    assert observer.count() == 1 and observer.stale() == []


def test_update_of_the_text_returns_the_new_vector(cursor, observer):
    cursor.execute("INSERT INTO articles (title, body) VALUES ('Bread', 'Needs time.')")
    (vector,) = one(cursor, "UPDATE articles SET title = 'Dough' RETURNING embedding")
    assert observer.is_vector_of(vector, "Dough\n\nNeeds time.")


def test_all_columns_written_back_with_the_old_vector_give_the_new_one(cursor, observer):
    id, vector = one(cursor, "INSERT INTO articles (body) VALUES ('Old.') RETURNING id, embedding")
    update = "UPDATE articles SET title = %s, body = %s, embedding = %s WHERE id = %s RETURNING embedding"
    (fresh,) = one(cursor, update, None, "New.", vector, id)
    assert observer.is_vector_of(fresh, "New.")


def test_a_supplied_vector_is_kept_until_it_is_set_to_null(cursor, observer):
    supplied, other = Vector(SUPPLIED), Vector(SUPPLIED[::-1])
    insert = "INSERT INTO articles (body, embedding) VALUES ('Text.', %s) RETURNING embedding"
    assert one(cursor, insert, supplied) == (supplied,)
    update = "UPDATE articles SET body = 'Other text.', embedding = %s RETURNING embedding"
    assert one(cursor, update, other) == (other,)
    (vector,) = one(cursor, update, None)
    assert observer.is_vector_of(vector, "Other text.")


def test_executemany(connection, cursor, observer):
    cursor.executemany("INSERT INTO articles (body) VALUES (%s)", [(body,) for body in DISHES])
    connection.commit()
    assert observer.count() == len(DISHES) and observer.stale() == []


def test_execute_values_returns_the_vectors(cursor, observer):
    insert = "INSERT INTO articles (body) VALUES %s RETURNING body, embedding"
    rows = execute_values(cursor, insert, [(body,) for body in DISHES], fetch=True)
    assert [body for body, _ in rows] == DISHES
    for body, vector in rows:
        assert vector is None if body is None else observer.is_vector_of(vector, body)


def test_copy(connection, cursor, observer):
    lines = io.StringIO("Soup\tSimmers.\t\\N\nStew\t\\N\t\\N\n\\N\tSupplied.\t" + str(SUPPLIED).replace(" ", "") + "\n")
    cursor.copy_expert("COPY articles (title, body, embedding) FROM STDIN", lines)
    connection.commit()
    assert observer.count() == 3
    assert observer.stale() == [3], "the third came with a vector"


def test_upsert(connection, cursor, observer):
    upsert = """
        INSERT INTO articles (slug, body) VALUES %s
        ON CONFLICT (slug) DO UPDATE SET body = EXCLUDED.body RETURNING slug, embedding"""
    execute_values(cursor, upsert, [("soup", "Simmers."), ("stew", "Takes hours.")])
    rows = execute_values(cursor, upsert, [("soup", "Boils."), ("cake", "Rises.")], fetch=True)
    connection.commit()
    vectors = dict(rows)
    assert observer.is_vector_of(vectors["soup"], "Boils.") and observer.is_vector_of(vectors["cake"], "Rises.")
    assert observer.count() == 3 and observer.stale() == []


def test_a_statement_trigger_embeds_after_returning(connection, cursor, observer):
    insert = "INSERT INTO imports (body) VALUES %s RETURNING embedding"
    rows = execute_values(cursor, insert, [(body,) for body in DISHES], fetch=True)
    assert rows == [(None,)] * len(DISHES)
    cursor.execute("UPDATE imports SET body = 'Salt it early.' WHERE body = 'Salt it late.'")
    connection.commit()
    assert observer.count("imports") == len(DISHES) and observer.stale("imports") == []


def test_an_error_has_its_class_and_ends_only_the_transaction(connection, cursor, observer):
    with pytest.raises(errors.UndefinedObject) as caught:
        cursor.execute("INSERT INTO misconfigured (body) VALUES ('Text.')")
    assert caught.value.pgcode == "42704" and "no-such-model" in caught.value.diag.message_primary
    connection.rollback()
    (vector,) = one(cursor, "INSERT INTO articles (body) VALUES ('Next.') RETURNING embedding")
    assert observer.is_vector_of(vector, "Next.")


def test_a_savepoint_outlives_an_error(connection, cursor, observer):
    cursor.execute("SET LOCAL vector_embed.overlong_text = error")
    cursor.execute("INSERT INTO articles (body) VALUES ('Before.')")
    cursor.execute("SAVEPOINT one_row")
    with pytest.raises(errors.StringDataRightTruncation):
        cursor.execute("INSERT INTO articles (body) VALUES (%s)", (OVERLONG,))
    cursor.execute("ROLLBACK TO one_row")
    cursor.execute("INSERT INTO articles (body) VALUES ('After.')")
    connection.commit()
    assert observer.count() == 2 and observer.stale() == []


def test_a_timeout_ends_the_statement(connection, cursor, observer):
    cursor.execute("SET LOCAL statement_timeout = '300ms'")
    with pytest.raises(errors.QueryCanceled):
        cursor.execute(ENDLESS)
    connection.rollback()
    (vector,) = one(cursor, "INSERT INTO articles (body) VALUES ('Next.') RETURNING embedding")
    assert observer.is_vector_of(vector, "Next.")


def test_a_cancel_ends_the_statement(connection, cursor, observer):
    def cancel():
        observer.wait_until_embedding(connection.get_backend_pid())
        connection.cancel()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(errors.QueryCanceled):
        cursor.execute(ENDLESS)
    canceller.join()
    connection.rollback()
    cursor.execute("INSERT INTO articles (body) VALUES ('Next.')")
    connection.commit()
    assert observer.count() == 1 and observer.stale() == []
