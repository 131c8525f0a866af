"""Types of columns that differ between databases, for the declared tables and for the migrations."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

TEXT: Final = sa.String().with_variant(sa.String(collation="C"), "postgresql")
"""Text, sorted by code points whatever the locale of the database: as on SQLite."""
JSON: Final = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
"""JSON whose ``None`` is stored as NULL, not as the text ``null``."""
