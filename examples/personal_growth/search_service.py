#!/usr/bin/env python3
"""Models of the application, and its search by meaning.

    search_service.py QUESTION [LIMIT]

The application neither computes nor sees a vector: PostgreSQL embeds notes by a trigger and questions by embed_query().
libpq's environment variables name server, database and role.
"""

import sys
from typing import NamedTuple

from sqlalchemy import (
    TIMESTAMP, Boolean, CheckConstraint, Column, FetchedValue, Float, ForeignKey, Identity, Index, Integer, String, Table, Text,
    UniqueConstraint, create_engine, func, select, text,
)  # fmt: skip
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.orm import DeclarativeBase, Session, relationship
from sqlalchemy.types import UserDefinedType

MODEL = "all-MiniLM-L6-v2"


class Vector(UserDefinedType):
    """pgvector's type. Vectors stay in the database, so that it needs no Python package."""

    cache_ok = True

    def __init__(self, dimensions: int | None = None) -> None:
        self.dimensions = dimensions

    def get_col_spec(self, **_options) -> str:
        return "vector" if self.dimensions is None else f"vector({self.dimensions})"


ischema_names["vector"] = Vector


class Base(DeclarativeBase):
    pass


def key() -> Column:
    return Column(Integer, Identity(), primary_key=True)


def moment(**options) -> Column:
    return Column(TIMESTAMP(timezone=True), **options)


def created_at() -> Column:
    return moment(nullable=False, server_default=func.now())


def updated_at() -> Column:
    # By a trigger, whoever writes: an onupdate of Python's counts for Python only.
    return moment(nullable=False, server_default=func.now(), server_onupdate=FetchedValue())


note_tags = Table(
    "note_tags", Base.metadata,
    Column("note_id", ForeignKey("notes.id", ondelete="CASCADE"), primary_key=True),
    Column("tag_id", ForeignKey("tags.id", ondelete="CASCADE"), primary_key=True),
    Index("note_tags_tag_id_idx", "tag_id"),
)  # fmt: skip
task_tags = Table(
    "task_tags", Base.metadata,
    Column("task_id", ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    Column("tag_id", ForeignKey("tags.id", ondelete="CASCADE"), primary_key=True),
    Index("task_tags_tag_id_idx", "tag_id"),
)  # fmt: skip


class Project(Base):
    __tablename__ = "projects"
    id = key()
    name = Column(Text, nullable=False)
    description = Column(Text)
    color = Column(String(7))
    is_system = Column(Boolean, nullable=False, server_default=text("false"))
    created_at = created_at()
    updated_at = updated_at()


class Tag(Base):
    __tablename__ = "tags"
    __table_args__ = (UniqueConstraint("name", name="tags_name_key"),)
    id = key()
    name = Column(Text, nullable=False)
    color = Column(String(7))


class Task(Base):
    __tablename__ = "tasks"
    __table_args__ = (
        CheckConstraint("priority BETWEEN 1 AND 5", name="tasks_priority_check"),
        Index("tasks_project_id_idx", "project_id"),
        Index("tasks_parent_task_id_idx", "parent_task_id"),
    )
    id = key()
    title = Column(Text, nullable=False)
    description = Column(Text)
    status = Column(String(20), nullable=False, server_default="pending")
    priority = Column(Integer)
    due_date = moment()
    snooze_until = moment()
    start_time = moment()
    end_time = moment()
    estimated_hours = Column(Float(53))
    project_id = Column(ForeignKey("projects.id"))
    parent_task_id = Column(ForeignKey("tasks.id"))
    created_at = created_at()
    updated_at = updated_at()
    tags = relationship(Tag, secondary=task_tags, passive_deletes=True)


class Note(Base):
    __tablename__ = "notes"
    __table_args__ = (Index("notes_project_id_idx", "project_id"),)
    id = key()
    title = Column(Text, nullable=False)
    content = Column(Text)
    source_url = Column(Text)
    project_id = Column(ForeignKey("projects.id"))
    created_at = created_at()
    updated_at = updated_at()
    tags = relationship(Tag, secondary=note_tags, passive_deletes=True)


class NoteEmbedding(Base):
    """Written by the trigger of notes alone."""

    __tablename__ = "note_embeddings"
    __table_args__ = (
        UniqueConstraint("note_id", "chunk_index", name="note_embeddings_note_id_chunk_index_key"),
        Index(
            "note_embeddings_embedding_idx", "embedding", postgresql_using="hnsw", postgresql_ops={"embedding": "vector_cosine_ops"}
        ),
    )
    id = key()
    note_id = Column(ForeignKey("notes.id", ondelete="CASCADE"), nullable=False)
    chunk_index = Column(Integer, nullable=False, server_default=text("0"))
    content = Column(Text, nullable=False)
    embedding = Column(Vector(384))
    created_at = created_at()
    updated_at = updated_at()


class Found(NamedTuple):
    note: Note
    chunk: str
    similarity: float


class SearchService:
    # How many chunks are looked at for each note that is wanted: a long note may have several among the nearest.
    CHUNKS_PER_NOTE = 20

    def __init__(self, session: Session) -> None:
        self.session = session

    def similar_notes(self, question: str, limit: int = 5) -> list[Found]:
        """The notes with the passages nearest to a question, each note once."""
        chunks = min(max(limit, 1) * self.CHUNKS_PER_NOTE, 1000)
        # The index looks at 40 chunks unless it is told otherwise, and so would give at most 40; it takes 1,000 at most.
        self.session.execute(select(func.set_config("hnsw.ef_search", str(chunks), True)))
        distance = NoteEmbedding.embedding.op("<=>", return_type=Float())(func.embed_query(question, MODEL)).label("distance")
        nearest = select(NoteEmbedding.note_id, NoteEmbedding.content, distance).order_by(distance).limit(chunks).subquery()
        best = select(nearest).ext(distinct_on(nearest.c.note_id)).order_by(nearest.c.note_id, nearest.c.distance).subquery()
        found = (
            select(Note, best.c.content, 1 - best.c.distance)
            .join(best, best.c.note_id == Note.id)
            .order_by(best.c.distance, Note.id)
            .limit(limit)
        )
        return [Found(*row) for row in self.session.execute(found)]


def connect():
    return create_engine("postgresql+psycopg://", pool_pre_ping=True)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    with Session(connect()) as session:
        for note, chunk, similarity in SearchService(session).similar_notes(sys.argv[1], int((sys.argv[2:] or ["5"])[0])):
            print(f"{similarity:.3f}  {note.id:4}  {note.title[:20]}  {' '.join(chunk.split())[:70]}")
