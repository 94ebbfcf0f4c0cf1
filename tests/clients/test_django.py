"""Django: save() writes all fields, and what the server made of them is read by refresh_from_db()."""

import os

import django
import pytest
from django.conf import settings
from django.db import connection, models, transaction
from django.db.utils import DataError, OperationalError, ProgrammingError
from pgvector.django import CosineDistance, VectorField

from conftest import DISHES, ENDLESS, OVERLONG, SUPPLIED

server = {"HOST": os.environ["PGHOST"], "PORT": os.environ["PGPORT"], "USER": os.environ["PGUSER"]}
settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "django", **server}})
django.setup()


class Fields(models.Model):
    id = models.BigAutoField(primary_key=True)
    slug = models.TextField(null=True, unique=True)
    title = models.TextField(null=True)
    body = models.TextField(null=True)

    class Meta:
        abstract = True
        app_label = "clients"
        managed = False
        db_table = "articles"


class Article(Fields):
    embedding = VectorField(dimensions=384, null=True, editable=False)


class ReturningArticle(Fields):
    """A default that the database sets is fetched with the INSERT."""

    embedding = VectorField(dimensions=384, null=True, editable=False, db_default=None)


class DeferringArticle(Fields):
    """Objects that do not load the vector do not write it either."""

    class Manager(models.Manager):
        def get_queryset(self):
            return super().get_queryset().defer("embedding")

    embedding = VectorField(dimensions=384, null=True, editable=False)
    objects = Manager()


class Import(models.Model):
    id = models.BigAutoField(primary_key=True)
    body = models.TextField(null=True)
    embedding = VectorField(dimensions=384, null=True, editable=False)

    class Meta:
        app_label = "clients"
        managed = False
        db_table = "imports"


@pytest.fixture(autouse=True)
def closed_connection():
    yield
    connection.close()


def execute(statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)


def test_create_and_refresh(observer):
    article = Article.objects.create(title="Bread", body="Needs time.")
    article.refresh_from_db()
    assert observer.is_vector_of(article.embedding, "Bread\n\nNeeds time.")


def test_create_fetches_a_default_of_the_database(observer):
    article = ReturningArticle.objects.create(body="Needs time.")
    assert observer.is_vector_of(article.embedding, "Needs time.")


def test_save_writes_the_old_vector_back_and_the_row_gets_the_new_one(observer):
    Article.objects.create(body="Old.")
    article = Article.objects.get()
    article.body = "New."
    article.save()
    assert observer.count() == 1 and observer.stale() == []
    article.refresh_from_db()
    assert observer.is_vector_of(article.embedding, "New.")


def test_save_after_a_refresh_is_like_the_first(observer):
    article = Article.objects.create(body="First.")
    for body in "Second.", "Third.", "Third.":
        article.refresh_from_db(fields=["embedding"])
        article.body = body
        article.save()
        assert observer.stale() == []


def test_objects_without_the_vector_are_saved_any_number_of_times(observer):
    DeferringArticle.objects.create(body="First.")
    article = DeferringArticle.objects.get()
    for body in "Second.", "Third.", "Third.":
        article.body = body
        article.save()
        assert observer.stale() == []
    assert observer.is_vector_of(article.embedding, "Third."), "read when asked for"


def test_save_of_some_fields(observer):
    article = Article.objects.create(body="Old.")
    article.body = "New."
    article.save(update_fields=["body"])
    article.title = "Not written."
    article.save(update_fields=["body"])
    assert observer.count() == 1 and observer.stale() == []


def test_a_supplied_vector_is_kept_until_it_is_set_to_null(observer):
    article = Article.objects.create(body="Text.", embedding=SUPPLIED)
    article.refresh_from_db()
    assert article.embedding == SUPPLIED
    article.body, article.embedding = "Other text.", SUPPLIED[::-1]
    article.save()
    article.refresh_from_db()
    assert article.embedding == SUPPLIED[::-1]
    article.embedding = None
    article.save()
    assert observer.stale() == []


@pytest.mark.parametrize("model", [Article, ReturningArticle, Import])
def test_bulk_create(model, observer):
    table = model._meta.db_table
    created = model.objects.bulk_create(model(body=body) for body in DISHES)
    assert observer.count(table) == len(DISHES) and observer.stale(table) == []
    if model is ReturningArticle:
        assert observer.is_vector_of(created[0].embedding, DISHES[0])


@pytest.mark.parametrize("fields", [["body"], ["body", "embedding"]], ids=["body", "body+embedding"])
def test_bulk_create_over_rows_that_exist(fields, observer):
    for bodies in ["Simmers.", "Rises."], ["Boils.", "Falls."]:
        articles = [Article(slug=slug, body=body) for slug, body in zip(["soup", "cake"], bodies)]
        Article.objects.bulk_create(
            articles, update_conflicts=True, unique_fields=["slug"], update_fields=fields
        )
        assert observer.count() == 2 and observer.stale() == []


@pytest.mark.parametrize("model", [Article, Import])
@pytest.mark.parametrize("fields", [["body"], ["body", "embedding"]], ids=["body", "body+embedding"])
def test_bulk_update(model, fields, observer):
    model.objects.bulk_create(model(body=body) for body in DISHES)
    articles = list(model.objects.order_by("id"))
    for article in articles:
        article.body = f"{article.body} Or not."
    assert model.objects.bulk_update(articles, fields) == len(DISHES)
    assert observer.stale(model._meta.db_table) == []


def test_update_of_a_query(observer):
    Article.objects.bulk_create(Article(body=body) for body in DISHES)
    assert Article.objects.filter(body__isnull=False).update(title="Dish") == 3
    assert observer.count() == len(DISHES) and observer.stale() == []


def test_update_or_create(observer):
    for body, is_new in ("Simmers.", True), ("Boils.", False):
        article, created = Article.objects.update_or_create(slug="soup", defaults={"body": body})
        assert created is is_new
        article.refresh_from_db()
        assert observer.is_vector_of(article.embedding, body)


def test_the_nearest_articles(observer):
    Article.objects.bulk_create(Article(body=body) for body in DISHES)
    question = observer.value("SELECT embed('how do I bake a cake?')::real[]")
    nearest = Article.objects.exclude(embedding=None).order_by(CosineDistance("embedding", question))
    assert nearest.first().body == DISHES[0]


def test_an_error_keeps_its_sqlstate_and_the_connection_goes_on(observer):
    with pytest.raises(ProgrammingError) as caught, transaction.atomic():
        execute("INSERT INTO misconfigured (body) VALUES ('Text.')")
    assert caught.value.__cause__.sqlstate == "42704" and "no-such-model" in str(caught.value)
    Article.objects.create(body="Next.")
    assert observer.count() == 1 and observer.stale() == []


def test_a_nested_block_undoes_an_error(observer):
    with transaction.atomic():
        execute("SET LOCAL vector_embed.overlong_text = error")
        Article.objects.create(body="Before.")
        with pytest.raises(DataError) as caught, transaction.atomic():
            Article.objects.create(body=OVERLONG)
        assert caught.value.__cause__.sqlstate == "22001"
        Article.objects.create(body="After.")
    assert observer.count() == 2 and observer.stale() == []


def test_a_timeout_ends_the_statement(observer):
    with pytest.raises(OperationalError) as caught, transaction.atomic():
        execute("SET LOCAL statement_timeout = '300ms'")
        execute(ENDLESS)
    assert caught.value.__cause__.sqlstate == "57014"
    Article.objects.create(body="Next.")
    assert observer.count() == 1 and observer.stale() == []
