"""asyncpg: everything is prepared and binary, COPY too."""

import asyncio

import asyncpg
import pytest
import pytest_asyncio
from asyncpg import exceptions
from pgvector import Vector
from pgvector.asyncpg import register_vector

from conftest import DISHES, ENDLESS, OVERLONG, SUPPLIED

INSERT = "INSERT INTO articles (body) VALUES ($1) RETURNING embedding"


@pytest_asyncio.fixture
async def connection(database):
    connection = await asyncpg.connect(database=database)
    await register_vector(connection)
    yield connection
    await connection.close()


async def test_insert_returns_the_vector(connection, observer):
    vector = await connection.fetchval(INSERT, "Bread needs time.")
    assert observer.is_vector_of(vector, "Bread needs time.")
    assert observer.count() == 1 and observer.stale() == []


async def test_a_prepared_statement_goes_on_working(connection, observer):
    insert = await connection.prepare(INSERT)
    for number in range(12):  # PostgreSQL may change to a generic plan after five
        body = f"Loaf number {number}."
        assert observer.is_vector_of(await insert.fetchval(body), body)


async def test_update_of_the_text_returns_the_new_vector(connection, observer):
    await connection.execute("INSERT INTO articles (title, body) VALUES ('Bread', 'Needs time.')")
    vector = await connection.fetchval("UPDATE articles SET title = $1 RETURNING embedding", "Dough")
    assert observer.is_vector_of(vector, "Dough\n\nNeeds time.")


async def test_all_columns_written_back_with_the_old_vector_give_the_new_one(connection, observer):
    row = await connection.fetchrow("INSERT INTO articles (body) VALUES ('Old.') RETURNING *")
    update = "UPDATE articles SET title = $2, body = $3, embedding = $4 WHERE id = $1 RETURNING embedding"
    vector = await connection.fetchval(update, row["id"], row["title"], "New.", row["embedding"])
    assert observer.is_vector_of(vector, "New.")


async def test_a_supplied_vector_is_kept_until_it_is_set_to_null(connection, observer):
    supplied, other = Vector(SUPPLIED), Vector(SUPPLIED[::-1])
    insert = "INSERT INTO articles (body, embedding) VALUES ('Text.', $1) RETURNING embedding"
    assert await connection.fetchval(insert, supplied) == supplied
    update = "UPDATE articles SET body = 'Other text.', embedding = $1 RETURNING embedding"
    assert await connection.fetchval(update, other) == other
    assert observer.is_vector_of(await connection.fetchval(update, None), "Other text.")


async def test_executemany(connection, observer):
    await connection.executemany(INSERT, [(body,) for body in DISHES])
    assert observer.count() == len(DISHES) and observer.stale() == []


async def test_fetchmany_returns_the_vectors(connection, observer):
    for body, (vector,) in zip(DISHES, await connection.fetchmany(INSERT, [(body,) for body in DISHES]), strict=True):
        assert vector is None if body is None else observer.is_vector_of(vector, body)


async def test_one_insert_of_an_array(connection, observer):
    insert = "INSERT INTO articles (body) SELECT unnest($1::text[]) RETURNING body, embedding"
    for body, vector in await connection.fetch(insert, DISHES):
        assert vector is None if body is None else observer.is_vector_of(vector, body)


async def test_copy(connection, observer):
    rows = [("Soup", "Simmers.", None), ("Stew", None, None), (None, "Supplied.", Vector(SUPPLIED))]
    columns = ["title", "body", "embedding"]
    assert await connection.copy_records_to_table("articles", records=rows, columns=columns) == "COPY 3"
    assert observer.stale() == [3], "the third came with a vector"


async def test_upsert(connection, observer):
    upsert = """
        INSERT INTO articles (slug, body) VALUES ($1, $2)
        ON CONFLICT (slug) DO UPDATE SET body = EXCLUDED.body RETURNING embedding"""
    for body in "Simmers.", "Boils.":
        assert observer.is_vector_of(await connection.fetchval(upsert, "soup", body), body)
    await connection.executemany(upsert, [("soup", "Steams."), ("cake", "Rises.")])
    assert observer.count() == 2 and observer.stale() == []


async def test_a_statement_trigger_embeds_after_returning(connection, observer):
    insert = "INSERT INTO imports (body) SELECT unnest($1::text[]) RETURNING embedding"
    assert [row["embedding"] for row in await connection.fetch(insert, DISHES)] == [None] * len(DISHES)
    await connection.copy_records_to_table("imports", records=[(body,) for body in DISHES], columns=["body"])
    await connection.execute("UPDATE imports SET body = 'Salt it early.' WHERE body = 'Salt it late.'")
    assert observer.count("imports") == 2 * len(DISHES) and observer.stale("imports") == []


async def test_an_error_has_its_class_and_the_connection_goes_on(connection, observer):
    with pytest.raises(exceptions.UndefinedObjectError) as caught:
        await connection.execute("INSERT INTO misconfigured (body) VALUES ('Text.')")
    assert caught.value.sqlstate == "42704" and "no-such-model" in caught.value.message
    assert observer.is_vector_of(await connection.fetchval(INSERT, "Next."), "Next.")


async def test_a_nested_transaction_undoes_an_error(connection, observer):
    async with connection.transaction():
        await connection.execute("SET LOCAL vector_embed.overlong_text = error")
        await connection.execute(INSERT, "Before.")
        with pytest.raises(exceptions.StringDataRightTruncationError):
            async with connection.transaction():
                await connection.execute(INSERT, OVERLONG)
        await connection.execute(INSERT, "After.")
    assert observer.count() == 2 and observer.stale() == []


async def test_an_error_in_copy_leaves_nothing_behind(connection, observer):
    await connection.execute("SET vector_embed.overlong_text = error")
    records = [("Short.",), (OVERLONG,), ("Short again.",)]
    with pytest.raises(exceptions.StringDataRightTruncationError):
        await connection.copy_records_to_table("articles", records=records, columns=["body"])
    await connection.execute(INSERT, "Next.")
    assert observer.count() == 1 and observer.stale() == []


async def test_the_server_s_timeout_ends_the_statement(connection, observer):
    await connection.execute("SET statement_timeout = '300ms'")
    with pytest.raises(exceptions.QueryCanceledError):
        await connection.execute(ENDLESS)
    await connection.execute("RESET statement_timeout")
    assert observer.is_vector_of(await connection.fetchval(INSERT, "Next."), "Next.")


async def test_the_client_s_timeout_ends_the_statement(connection, observer):
    with pytest.raises(TimeoutError):
        await connection.execute(ENDLESS, timeout=0.3)
    assert observer.is_vector_of(await connection.fetchval(INSERT, "Next."), "Next.")
    assert observer.count() == 1


async def test_the_end_of_a_task_ends_the_statement(connection, observer):
    task = asyncio.create_task(connection.execute(ENDLESS))
    await asyncio.to_thread(observer.wait_until_embedding, connection.get_server_pid())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert observer.is_vector_of(await connection.fetchval(INSERT, "Next."), "Next.")
    assert observer.count() == 1


async def test_a_pool(database, observer):
    async with asyncpg.create_pool(database=database, min_size=4, max_size=4) as pool:
        await asyncio.gather(*(pool.execute(INSERT, f"Loaf number {number}.") for number in range(40)))
    assert observer.count() == 40 and observer.stale() == []
