"""psycopg 3: parameters go to the server, statements are prepared there, batches run in a pipeline."""

import threading

import psycopg
import pytest
from pgvector import Vector
from pgvector.psycopg import register_vector
from psycopg import errors

from conftest import DISHES, ENDLESS, OVERLONG, SUPPLIED


@pytest.fixture
def connection(database):
    with psycopg.connect(dbname=database) as connection:
        register_vector(connection)
        yield connection


def one(connection, statement, *parameters, **options):
    return connection.execute(statement, parameters, **options).fetchone()


def test_insert_returns_the_vector_in_text_and_in_binary(connection, observer):
    insert = "INSERT INTO articles (body) VALUES (%s) RETURNING embedding"
    for binary in False, True:
        (vector,) = one(connection, insert, "Bread needs time.", binary=binary)
        assert observer.is_vector_of(vector, "Bread needs time.")
    connection.commit()
    assert observer.count() == 2 and observer.stale() == []


def test_a_prepared_statement_goes_on_working(connection, observer):
    for number in range(12):  # PostgreSQL may change to a generic plan after five
        body = f"Loaf number {number}."
        (vector,) = one(
            connection, "INSERT INTO articles (body) VALUES (%s) RETURNING embedding", body, prepare=True
        )
        assert observer.is_vector_of(vector, body)


def test_update_of_the_text_returns_the_new_vector(connection, observer):
    connection.execute("INSERT INTO articles (title, body) VALUES ('Bread', 'Needs time.')")
    (vector,) = one(connection, "UPDATE articles SET title = 'Dough' RETURNING embedding")
    assert observer.is_vector_of(vector, "Dough\n\nNeeds time.")


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_all_columns_written_back_with_the_old_vector_give_the_new_one(connection, observer, binary):
    insert = "INSERT INTO articles (body) VALUES ('Old.') RETURNING id, embedding"
    id, vector = one(connection, insert, binary=binary)
    update = "UPDATE articles SET title = %s, body = %s, embedding = %{} WHERE id = %s RETURNING embedding"
    (fresh,) = one(connection, update.format("b" if binary else "t"), None, "New.", vector, id)
    assert observer.is_vector_of(fresh, "New.")


def test_a_supplied_vector_is_kept_until_it_is_set_to_null(connection, observer):
    supplied, other = Vector(SUPPLIED), Vector(SUPPLIED[::-1])
    insert = "INSERT INTO articles (body, embedding) VALUES ('Text.', %s) RETURNING embedding"
    assert one(connection, insert, supplied) == (supplied,)
    update = "UPDATE articles SET body = 'Other text.', embedding = %s RETURNING embedding"
    assert one(connection, update, other) == (other,)
    (vector,) = one(connection, update, None)
    assert observer.is_vector_of(vector, "Other text.")


def test_executemany_returns_the_vectors(connection, observer):
    insert = "INSERT INTO articles (body) VALUES (%s) RETURNING embedding"
    with connection.cursor() as cursor:
        cursor.executemany(insert, [(body,) for body in DISHES], returning=True)
        for body, result in zip(DISHES, cursor.results(), strict=True):
            (vector,) = result.fetchone()
            assert vector is None if body is None else observer.is_vector_of(vector, body)


def test_a_pipeline(connection, observer):
    with connection.pipeline():
        sent = [connection.execute("INSERT INTO articles (body) VALUES (%s) RETURNING id", (body,)) for body in DISHES]
        connection.execute("UPDATE articles SET title = 'Dish'")
        assert [cursor.fetchone()[0] for cursor in sent] == [1, 2, 3, 4]
    connection.commit()
    assert observer.count() == 4 and observer.stale() == []


@pytest.mark.parametrize("format", ["text", "binary"])
def test_copy(connection, observer, format):
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY articles (title, body, embedding) FROM STDIN (FORMAT {format})") as copy,
    ):
        copy.set_types(["text", "text", "vector"])
        for row in [("Soup", "Simmers.", None), ("Stew", None, None), (None, "Supplied.", Vector(SUPPLIED))]:
            copy.write_row(row)
    connection.commit()
    assert observer.count() == 3
    assert observer.stale() == [3], "the third came with a vector"


def test_upsert(connection, observer):
    upsert = """
        INSERT INTO articles (slug, body) VALUES (%s, %s)
        ON CONFLICT (slug) DO UPDATE SET body = EXCLUDED.body RETURNING embedding"""
    for body in "Simmers.", "Boils.":
        (vector,) = one(connection, upsert, "soup", body)
        assert observer.is_vector_of(vector, body)
    # Some write all columns.
    one(connection, upsert.replace(" RETURNING", ", embedding = EXCLUDED.embedding RETURNING"), "soup", "Steams.")
    connection.commit()
    assert observer.count() == 1 and observer.stale() == []


def test_a_statement_trigger_embeds_after_returning(connection, observer):
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO imports (body) VALUES (%s) RETURNING embedding", [(body,) for body in DISHES], returning=True
        )
        assert [result.fetchone() for result in cursor.results()] == [(None,)] * len(DISHES)
        with cursor.copy("COPY imports (body) FROM STDIN") as copy:
            for body in DISHES:
                copy.write_row((body,))
    connection.execute("UPDATE imports SET body = 'Salt it early.' WHERE body = 'Salt it late.'")
    connection.commit()
    assert observer.count("imports") == 2 * len(DISHES) and observer.stale("imports") == []


def test_an_error_has_its_class_and_ends_only_the_transaction(connection, observer):
    with pytest.raises(errors.UndefinedObject) as caught:
        connection.execute("INSERT INTO misconfigured (body) VALUES ('Text.')")
    assert caught.value.sqlstate == "42704" and "no-such-model" in caught.value.diag.message_primary
    connection.rollback()
    (vector,) = one(connection, "INSERT INTO articles (body) VALUES ('Next.') RETURNING embedding")
    assert observer.is_vector_of(vector, "Next.")


def test_a_nested_transaction_undoes_an_error(connection, observer):
    connection.execute("SET LOCAL vector_embed.overlong_text = error")
    connection.execute("INSERT INTO articles (body) VALUES ('Before.')")
    with pytest.raises(errors.StringDataRightTruncation), connection.transaction():
        connection.execute("INSERT INTO articles (body) VALUES (%s)", (OVERLONG,))
    connection.execute("INSERT INTO articles (body) VALUES ('After.')")
    connection.commit()
    assert observer.count() == 2 and observer.stale() == []


def test_an_error_in_copy_leaves_nothing_behind(connection, observer):
    connection.execute("SET LOCAL vector_embed.overlong_text = error")
    with pytest.raises(errors.StringDataRightTruncation), connection.cursor() as cursor:
        with cursor.copy("COPY articles (body) FROM STDIN") as copy:
            for body in ["Short.", OVERLONG, "Short again."]:
                copy.write_row((body,))
    connection.rollback()
    connection.execute("INSERT INTO articles (body) VALUES ('Next.')")
    connection.commit()
    assert observer.count() == 1 and observer.stale() == []


def test_a_timeout_ends_the_statement(connection, observer):
    connection.execute("SET LOCAL statement_timeout = '300ms'")
    with pytest.raises(errors.QueryCanceled):
        connection.execute(ENDLESS)
    connection.rollback()
    (vector,) = one(connection, "INSERT INTO articles (body) VALUES ('Next.') RETURNING embedding")
    assert observer.is_vector_of(vector, "Next.")


def test_a_cancel_ends_the_statement(connection, observer):
    def cancel():
        observer.wait_until_embedding(connection.info.backend_pid)
        connection.cancel_safe()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(errors.QueryCanceled):
        connection.execute(ENDLESS)
    canceller.join()
    connection.rollback()
    connection.execute("INSERT INTO articles (body) VALUES ('Next.')")
    connection.commit()
    assert observer.count() == 1 and observer.stale() == []


async def test_an_asynchronous_connection(database, observer):
    async with await psycopg.AsyncConnection.connect(dbname=database) as connection:
        await connection.execute("INSERT INTO articles (body) VALUES ('Waits its turn.')")
    assert observer.count() == 1 and observer.stale() == []
