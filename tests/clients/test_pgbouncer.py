"""pgbouncer in transaction mode: two server connections, and a client has one for as long as a transaction lasts.

Before 1.21 it does not know of prepared statements, so drivers are told to do without; since then they may use them."""

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import psycopg
import pytest
from psycopg import errors

from conftest import DISHES, ENDLESS, OVERLONG

SERVER_CONNECTIONS = 2
CLIENTS = 12
POOLER_PREPARES = tuple(map(int, os.environ["PGBOUNCER_VERSION"].split("."))) >= (1, 22)
INSERT = "INSERT INTO articles (body) VALUES (%s) RETURNING pg_backend_pid(), articles.fresh"


def connect():
    prepare = POOLER_PREPARES and psycopg.pq.version() >= 170000  # libpq learnt then to close statements
    return psycopg.connect(port=6432, dbname="pooled", prepare_threshold=0 if prepare else None)


def connect_asyncpg():
    return asyncpg.connect(port=6432, database="pooled", statement_cache_size=100 if POOLER_PREPARES else 0)


def test_more_clients_than_server_connections(observer):
    together = threading.Barrier(CLIENTS, timeout=60)

    def insert(client):
        with connect() as connection:
            together.wait()
            pids = set()
            for number in range(10):
                pid, fresh = connection.execute(INSERT, (f"Client {client} says {number}.",)).fetchone()
                connection.commit()
                assert fresh
                pids.add(pid)
            return pids

    with ThreadPoolExecutor(CLIENTS) as threads:
        pids = set().union(*threads.map(insert, range(CLIENTS)))
    assert len(pids) <= SERVER_CONNECTIONS
    assert observer.count() == CLIENTS * 10 and observer.stale() == []


async def test_more_asyncpg_clients_than_server_connections(observer):
    async def insert(client):
        connection = await connect_asyncpg()
        for number in range(10):
            async with connection.transaction():
                body = f"Client {client} says {number}."
                row = await connection.fetchrow(INSERT.replace("%s", "$1"), body)
                assert row["fresh"]
        await connection.close()

    await asyncio.gather(*(insert(client) for client in range(CLIENTS)))
    assert observer.count() == CLIENTS * 10 and observer.stale() == []


def test_statements_prepared_within_a_transaction(observer):
    for title in "Soup", "Stew":
        with connect() as connection:
            connection.execute(
                "PREPARE insertion (text) AS INSERT INTO articles (body) VALUES ($1) RETURNING articles.fresh"
            )
            for number in range(12):  # PostgreSQL may change to a generic plan after five
                assert connection.execute(f"EXECUTE insertion ('{title} number {number}.')").fetchone() == (True,)
            connection.execute("DEALLOCATE insertion")
    assert observer.count() == 24


def test_batches(observer):
    with connect() as connection, connection.cursor() as cursor:
        cursor.executemany("INSERT INTO articles (body) VALUES (%s)", [(body,) for body in DISHES])
        with cursor.copy("COPY articles (body) FROM STDIN") as copy:
            for body in DISHES:
                copy.write_row((body,))
        with cursor.copy("COPY imports (body) FROM STDIN") as copy:
            for body in DISHES:
                copy.write_row((body,))
    assert observer.count() == 2 * len(DISHES) and observer.stale() == []
    assert observer.count("imports") == len(DISHES) and observer.stale("imports") == []


def test_a_setting_of_one_transaction_is_not_the_next_one_s(observer):
    with connect() as connection:
        for _ in range(SERVER_CONNECTIONS + 1):
            connection.execute("SET LOCAL vector_embed.overlong_text = error")
            with pytest.raises(errors.StringDataRightTruncation):
                connection.execute(INSERT, (OVERLONG,))
            connection.rollback()
        connection.execute(INSERT, (OVERLONG,))
    assert observer.count() == 1 and observer.stale() == []


def test_an_error_is_its_client_s_alone(observer):
    with connect() as unlucky, connect() as other:
        for number in range(2 * SERVER_CONNECTIONS):
            with pytest.raises(errors.UndefinedObject) as caught:
                unlucky.execute("INSERT INTO misconfigured (body) VALUES ('Text.')")
            assert caught.value.sqlstate == "42704"
            assert other.execute(INSERT, (f"Number {number}.",)).fetchone()[1]
            unlucky.rollback()
            other.commit()
    assert observer.stale() == []


def test_a_cancel_reaches_the_statement_and_the_server_connection_serves_others(observer):
    with connect() as connection:
        (pid,) = connection.execute("SELECT pg_backend_pid()").fetchone()

        def cancel():
            observer.wait_until_embedding(pid)
            connection.cancel_safe()

        canceller = threading.Thread(target=cancel)
        canceller.start()
        with pytest.raises(errors.QueryCanceled):
            connection.execute(ENDLESS)
        canceller.join()
    with connect() as other:
        assert other.execute(INSERT, ("Next.",)).fetchone()[1]


def test_a_client_that_goes_away_leaves_no_work_behind(observer):
    connection = connect()
    # By default PostgreSQL notices when it has something to say to the client.
    connection.execute("SET LOCAL client_connection_check_interval = '100ms'")
    (pid,) = connection.execute("SELECT pg_backend_pid()").fetchone()
    connection.pgconn.send_query(ENDLESS.encode())
    observer.wait_until_embedding(pid)
    connection.close()
    observer.wait_until("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = %s)", pid)
    with connect() as other:
        assert other.execute(INSERT, ("Next.",)).fetchone()[1]
    assert observer.count() == 1 and observer.stale() == []
