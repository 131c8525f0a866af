"""The client: the one place that knows capture, delivery, learning and recall, and ties them together."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from reflexio_middleware.capture.redaction import Redactor
from reflexio_middleware.client.about import AboutApi
from reflexio_middleware.client.awaiting import awaited
from reflexio_middleware.client.core import Core, open_clients
from reflexio_middleware.client.history import HistoryApi
from reflexio_middleware.client.interactions import InteractionsApi
from reflexio_middleware.client.operations import OperationsApi
from reflexio_middleware.client.playbooks import PlaybooksApi
from reflexio_middleware.client.profiles import ProfilesApi
from reflexio_middleware.client.recalling import RecallApi
from reflexio_middleware.client.requests import RequestsApi
from reflexio_middleware.client.retrieval import RetrievalApi
from reflexio_middleware.client.session_view import SessionView
from reflexio_middleware.client.sharing import SharingApi
from reflexio_middleware.client.users import UsersApi
from reflexio_middleware.client.uses import UsesApi
from reflexio_middleware.embedding import Embedder
from reflexio_middleware.learning.extractor import Extractor
from reflexio_middleware.recall.render import TokenCounter, estimate_tokens
from reflexio_store.forking import protect

_lock = threading.RLock()
_default: ReflexioClient | None = None


def _itself(client: Core) -> Any:
    return client


class ReflexioClient(
    RequestsApi,
    InteractionsApi,
    ProfilesApi,
    PlaybooksApi,
    OperationsApi,
    HistoryApi,
    SharingApi,
    RetrievalApi,
    RecallApi,
    UsesApi,
    UsersApi,
    AboutApi,
):
    """The memory of your agents, in one home.

    Method names, arguments and answers are those of the public ``reflexio-client``. The first client made in a
    process, while it is open, is the one that captured turns go to (see :func:`default_client`).

    Args:
        store: URL of the home: ``sqlite:///memory.db``, ``sqlite://`` for one in memory,
            ``postgresql://user@host/database``, or the address of a Reflexio server (``https://host``). None: the
            setting ``REFLEXIO_STORE``, else ``REFLEXIO_URL``, else a SQLite file in the user's data folder.
        url_endpoint: The address of a Reflexio server, by the name that the public client has for it.
        api_key: The server's key; None: the setting ``REFLEXIO_API_KEY``.
        extractor: What learns: ``"statements"`` (no model), ``"llm"``, an :class:`Extractor` of your own, or several
            side by side in a list.
        redactors: Rules of your own that mask text before anything is written: functions from text to text.
        embedder: What makes search by meaning possible: ``"local"`` (a small model), ``"openai"`` (an endpoint), or an
            :class:`~reflexio_middleware.embedding.Embedder` of your own. None: the setting, full text alone.
        count_tokens: Counts the tokens of a text for the budget of a recall; an estimate unless you give your model's.
        **settings: Any setting of :class:`reflexio_middleware.settings.Settings` by its name.

    Raises:
        StoreURLError: The URL is unusable.
        StoreError: The home cannot be opened: folder not writable, damaged file, newer schema, wrong password. (A
            Reflexio server is not asked before it is needed; a database server that does not answer is waited for, and
            until then what must ask it raises :class:`StoreUnreachableError`.)
        MissingExtraError: What was asked for needs a package that is not installed; it names the command.
        InvalidInputError: A setting is unusable.
    """

    def __init__(
        self,
        store: str | None = None,
        *,
        url_endpoint: str | None = None,
        api_key: str | None = None,
        extractor: Extractor | str | Sequence[Extractor | str] | None = None,
        redactors: Sequence[Redactor] = (),
        embedder: Embedder | str | None = None,
        count_tokens: TokenCounter = estimate_tokens,
        _background: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(
            store,
            url_endpoint=url_endpoint,
            api_key=api_key,
            extractor=extractor,
            redactors=redactors,
            embedder=embedder,
            count_tokens=count_tokens,
            _background=_background,
            **settings,
        )
        global _default
        with _lock:
            if _default is None or _default.is_closed:
                _default = self

    publish_interaction_async = awaited(RequestsApi.publish_interaction, _itself)
    search_async = awaited(RetrievalApi.search, _itself)

    def for_session(self, session_id: str) -> SessionView:
        """This client seen from within one session: ``session_id`` is filled in where a method takes one, and another
        one is refused."""
        return SessionView(self, session_id)


def default_client() -> ReflexioClient:
    """The client that captured turns go to when nothing else is said: the first one made that is still open, else one
    made now from the settings (its home is opened in the background)."""
    global _default
    with _lock:
        if _default is None or _default.is_closed:
            _default = next((made for made in open_clients() if isinstance(made, ReflexioClient)), None)
        return _default or ReflexioClient(_background=True)


def set_default_client(client: ReflexioClient | None) -> None:
    """Say which client captured turns go to when nothing else is said; None: decide anew at the next need."""
    global _default
    with _lock:
        _default = client


__all__ = ["Core", "ReflexioClient", "default_client", "set_default_client"]


class _ChoiceOfDefault:
    """Nobody is choosing the default client while the process forks: a child could not finish it."""

    def before_fork(self) -> None:
        """Wait until nobody is; bounded."""
        self._resting = _lock.acquire(timeout=1.0)

    def after_fork(self, *, child: bool) -> None:
        """Go on, in a child with a lock of its own."""
        global _lock
        if child:
            _lock = threading.RLock()
        elif self._resting:
            _lock.release()


_resting = _ChoiceOfDefault()
protect(_resting)
