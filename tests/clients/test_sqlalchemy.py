"""SQLAlchemy 2, over both its synchronous drivers. The mapping says that the server sets the column, so that the
unit of work fetches it with RETURNING."""

import pytest
from pgvector.sqlalchemy import VECTOR
from sqlalchemy import FetchedValue, create_engine, event, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.exc import DataError, OperationalError, ProgrammingError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from conftest import DISHES, ENDLESS, OVERLONG, SUPPLIED


class Base(DeclarativeBase):
    pass


class Article(Base):
    __tablename__ = "articles"
    __mapper_args__ = {"eager_defaults": True}

    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str | None]
    title: Mapped[str | None]
    body: Mapped[str | None]
    embedding: Mapped[list[float] | None] = mapped_column(
        VECTOR(384), server_default=FetchedValue(), server_onupdate=FetchedValue()
    )


class Import(Base):
    """Mapped without a word about the server, and embedded by a statement trigger."""

    __tablename__ = "imports"

    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str | None]
    embedding: Mapped[list[float] | None] = mapped_column(VECTOR(384))


class Misconfigured(Base):
    __tablename__ = "misconfigured"

    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str | None]


@pytest.fixture(scope="module", params=["psycopg2", "psycopg"])
def engine(request, database):
    engine = create_engine(f"postgresql+{request.param}:///{database}")
    yield engine
    engine.dispose()


@pytest.fixture
def statements(engine):
    """The statements that the engine has sent."""
    sent = []

    def record(connection, cursor, statement, parameters, context, executemany):
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", record)
    yield sent
    event.remove(engine, "before_cursor_execute", record)


@pytest.fixture
def session(engine):
    with Session(engine) as session:
        yield session


def test_flush_fetches_the_vector_of_a_new_object(session, statements, observer):
    article = Article(title="Bread", body="Needs time.")
    session.add(article)
    session.flush()
    assert observer.is_vector_of(article.embedding, "Bread\n\nNeeds time.")
    assert len(statements) == 1, "it came with the INSERT"
    session.commit()
    assert observer.count() == 1 and observer.stale() == []


def test_flush_fetches_the_vector_of_a_changed_text(session, statements, observer):
    article = Article(body="Old.")
    session.add(article)
    session.flush()
    article.body = "New."
    session.flush()
    assert observer.is_vector_of(article.embedding, "New.")
    assert len(statements) == 2, "it came with the UPDATE"


def test_a_flush_beside_the_text_leaves_the_vector(session):
    article = Article(body="Text.", embedding=SUPPLIED)
    session.add(article)
    session.flush()
    article.slug = "text"
    session.flush()
    assert article.embedding == SUPPLIED


def test_all_columns_written_back_with_the_old_vector_give_the_new_one(session, observer):
    article = Article(body="Old.")
    session.add(article)
    session.flush()
    row = {"id": article.id, "title": None, "body": "New.", "embedding": article.embedding}
    session.execute(update(Article), [row])
    session.refresh(article)
    assert observer.is_vector_of(article.embedding, "New.")


def test_a_supplied_vector_is_kept_until_it_is_set_to_null(session, observer):
    article = Article(body="Text.", embedding=SUPPLIED)
    session.add(article)
    session.flush()
    assert article.embedding == SUPPLIED
    article.body, article.embedding = "Other text.", SUPPLIED[::-1]
    session.flush()
    session.refresh(article)
    assert article.embedding == SUPPLIED[::-1]
    article.embedding = None
    session.flush()
    session.refresh(article)
    assert observer.is_vector_of(article.embedding, "Other text.")


def test_many_new_objects_go_in_one_statement(session, statements, observer):
    articles = [Article(body=body) for body in DISHES * 10]
    session.add_all(articles)
    session.flush()
    assert len(statements) == 1
    assert observer.is_vector_of(articles[0].embedding, DISHES[0]) and articles[2].embedding is None
    session.commit()
    assert observer.count() == 40 and observer.stale() == []


def test_a_bulk_insert_returns_objects_with_vectors(session, observer):
    rows = [{"body": body} for body in DISHES]
    articles = session.scalars(insert(Article).returning(Article, sort_by_parameter_order=True), rows).all()
    assert [article.body for article in articles] == DISHES
    session.commit()
    assert observer.count() == 4 and observer.stale() == []


def test_upsert(session, observer):
    statement = postgresql_insert(Article)
    for columns in ["body"], ["body", "embedding"]:
        for body in "Simmers.", "Boils.":
            changes = {column: statement.excluded[column] for column in columns}
            upsert = statement.on_conflict_do_update(index_elements=["slug"], set_=changes).returning(Article)
            values = [{"slug": "soup", "body": body}]
            article = session.scalars(upsert, values, execution_options={"populate_existing": True}).one()
            assert observer.is_vector_of(article.embedding, body)
    session.commit()
    assert observer.count() == 1 and observer.stale() == []


def test_a_statement_trigger_embeds_for_the_next_read(session, observer):
    imported = [Import(body=body) for body in DISHES]
    session.add_all(imported)
    session.commit()  # after which attributes are read anew
    assert observer.is_vector_of(imported[0].embedding, DISHES[0])
    imported[0].body = "Whisk them longer."
    session.commit()
    assert observer.is_vector_of(imported[0].embedding, "Whisk them longer.")
    assert observer.count("imports") == len(DISHES) and observer.stale("imports") == []


def test_the_nearest_articles(session):
    session.add_all(Article(body=body) for body in DISHES if body)
    session.flush()
    distance = Article.embedding.cosine_distance(text("embed('how do I bake a cake?')"))
    assert session.scalars(select(Article.body).order_by(distance)).first() == DISHES[0]


def test_an_error_keeps_its_sqlstate_and_the_session_goes_on(session, observer):
    session.add(Misconfigured(body="Text."))
    with pytest.raises(ProgrammingError) as caught:
        session.flush()
    assert caught.value.orig.diag.sqlstate == "42704" and "no-such-model" in str(caught.value)
    session.rollback()
    session.add(Article(body="Next."))
    session.commit()
    assert observer.count() == 1 and observer.stale() == []


def test_a_nested_transaction_undoes_an_error(session, observer):
    session.execute(text("SET LOCAL vector_embed.overlong_text = error"))
    session.add(Article(body="Before."))
    session.flush()
    with pytest.raises(DataError) as caught, session.begin_nested():
        session.add(Article(body=OVERLONG))
    assert caught.value.orig.diag.sqlstate == "22001"
    session.add(Article(body="After."))
    session.commit()
    assert observer.count() == 2 and observer.stale() == []


def test_a_timeout_ends_the_statement(session, observer):
    session.execute(text("SET LOCAL statement_timeout = '300ms'"))
    with pytest.raises(OperationalError) as caught:
        session.execute(text(ENDLESS))
    assert caught.value.orig.diag.sqlstate == "57014"
    session.rollback()
    session.add(Article(body="Next."))
    session.commit()
    assert observer.count() == 1 and observer.stale() == []
