"""What the tests of all Python clients share. Each module works in the database that is named after it."""

import time

import psycopg
import pytest

SUPPLIED = [1.0] + [0.0] * 383
"""A vector that comes from elsewhere: no text has it."""

OVERLONG = "again and " * 500
"""More tokens than the model takes."""

ENDLESS = "INSERT INTO articles (body) SELECT body FROM many_long_texts"
"""A statement that somebody has to end."""

DISHES = ["Whisk the eggs, then fold in the flour.", "Rice wants twice its volume of water.", None, "Salt it late."]
"""Bodies of a batch, a missing one among them."""


class Observer:
    """A session beside the one under test. It sees what was committed, and compares in SQL."""

    def __init__(self, connection):
        self.connection = connection

    def value(self, query, *parameters):
        return self.connection.execute(query, parameters).fetchone()[0]

    def stale(self, table="articles"):
        """The rows whose vector is not that of their text, by id."""
        return [row[0] for row in self.connection.execute(f"SELECT t.id FROM {table} t WHERE NOT t.fresh")]

    def count(self, table="articles"):
        return self.value(f"SELECT count(*) FROM {table}")

    def is_vector_of(self, vector, text):
        """Whether a vector that a client was given, in whatever form it gives vectors, is that of a text."""
        numbers = vector if isinstance(vector, list) else vector.to_list()
        return self.value("SELECT is_vector_of(%s::real[]::vector, %s)", numbers, text)

    def wait_until(self, condition, *parameters):
        for _ in range(2000):
            if self.value(condition, *parameters):
                return
            time.sleep(0.01)
        raise AssertionError(f"not within 20 seconds: {condition}")

    def wait_until_embedding(self, pid):
        """Returns when the session of this process is in the middle of an embedding."""
        self.wait_until("SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = %s", pid)


@pytest.fixture(scope="module")
def database(request):
    return request.module.__name__.removeprefix("test_")


@pytest.fixture(scope="module")
def observer(database):
    with psycopg.connect(dbname=database, autocommit=True) as connection:
        yield Observer(connection)


@pytest.fixture(autouse=True)
def empty_tables(observer):
    observer.connection.execute("TRUNCATE articles, imports, misconfigured RESTART IDENTITY")
