"""The SQL home: the parts put together over one database."""

from __future__ import annotations

from .changes import Changes
from .database import Database
from .dialects import Dialect
from .dialects.sqlite import SqliteDialect
from .dialects.sqlite_url import parse_sqlite_url
from .embedding import Embeddings
from .expiry import Expiry
from .forgetting import Forgetting
from .health import Health
from .history import History
from .interactions import Interactions
from .learnings import LearningRecords
from .listing import Listing
from .moving import Records
from .opting import Opting
from .part import Clock, system_clock
from .promotion import Promotion
from .schema import ensure_schema
from .search import LearningSearch
from .sharing import SharingRecords
from .unread import Unread
from .usage import UsageRecords
from .uses import Uses
from .vectors import CACHE_BYTES, VectorCache


class SqlStore(
    Records,
    Listing,
    Interactions,
    Forgetting,
    LearningRecords,
    LearningSearch,
    Embeddings,
    Changes,
    Promotion,
    History,
    Expiry,
    SharingRecords,
    Opting,
    Uses,
    Health,
    Unread,
    UsageRecords,
):
    """A home of the record in a SQL database; it keeps :class:`~reflexio_store.contract.Store`.

    Args:
        url: ``sqlite:///memory.db`` (a file; ``~`` is the home folder), ``sqlite:////absolute/memory.db``, or
            ``sqlite://`` (in memory: shared by the threads of this process, gone when closed). A file takes the
            options ``?synchronous=full`` and ``?timeout=SECONDS``. Or another database, as its dialect.
        clock: Tells the time in epoch microseconds; the one of this machine unless another is given.
        vector_bytes: Most memory for vectors that were read.

    Raises:
        StoreURLError: The URL is not understood.
        StoreUnavailableError: The database cannot be opened or locked.
        StoreCorruptError: The file is damaged or is no database.
        SchemaTooNewError: A newer release wrote it.
    """

    def __init__(self, url: str | Dialect, *, clock: Clock = system_clock, vector_bytes: int = CACHE_BYTES) -> None:
        database = Database(SqliteDialect(parse_sqlite_url(url)) if isinstance(url, str) else url)
        super().__init__(database, clock)
        self._cache = VectorCache(vector_bytes)
        self._flowing = set()
        try:
            ensure_schema(database)
            self._go_on_compacting()
        except BaseException:
            database.close()
            raise

    @property
    def url(self) -> str:
        """Where the record is, without any password."""
        return self._database.dialect.url

    @property
    def kind(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._database.dialect.name

    @property
    def learns_itself(self) -> bool:
        """False: learning is the work of whoever claims its jobs."""
        return False

    def close(self) -> None:
        """Release every connection, once running calls have ended. Closing twice is fine."""
        self._finish_compacting()
        self._database.close()
