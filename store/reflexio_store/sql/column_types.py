"""Types of columns that differ between databases: JSON of the declared tables, and both for the migrations."""

from __future__ import annotations

from typing import Any, Final

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

TEXT: Final = sa.String().with_variant(sa.String(collation="C"), "postgresql")
"""Text, sorted by code points whatever the locale of the database: as on SQLite."""
JSON: Final = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
"""JSON whose ``None`` is stored as NULL, not as the text ``null``."""


class _List(sa.types.TypeDecorator[Any]):
    """Many values as one: an array, or where there are none a list in JSON."""

    impl = sa.String
    cache_ok = True

    def __init__(self, item: sa.types.TypeEngine[Any]) -> None:
        super().__init__()
        self.item = item

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        return dialect.type_descriptor(ARRAY(self.item) if dialect.name == "postgresql" else sa.String())

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        return list(value) if dialect.name == "postgresql" else orjson.dumps(list(value)).decode()


class _Listed(FunctionElement[Any]):
    """See :func:`listed`. It has no type: to a boolean SQLAlchemy adds ``= 1`` on SQLite, which then uses no index."""

    inherit_cache = True
    type = sa.types.NullType()


def listed(column: sa.Column[Any], name: str) -> sa.ColumnElement[bool]:
    """Whether a column's value is in the list that is given for ``name``.

    The statement is the same however many there are, so that it is compiled, and prepared by the server, only once.
    """
    return _Listed(column, sa.bindparam(name, type_=_List(column.type)))


@compiles(_Listed, "sqlite")
def _in_json(element: Any, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608


@compiles(_Listed, "postgresql")
def _in_array(element: Any, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} = ANY({values})"
