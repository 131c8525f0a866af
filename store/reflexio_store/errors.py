"""The errors of this project's own API, drawn as one tree.

::

    ReflexioError
    ├── InvalidInputError (ValueError)   an argument or field is unusable
    │   └── StoreURLError                the store URL cannot be understood
    ├── MissingExtraError (ImportError)  an optional package is not installed
    ├── StoreError                       the store could not do what was asked
    │   ├── StoreUnavailableError        cannot open, reach or lock it
    │   │   ├── StoreAccessError         it does not let us in: key or password missing or wrong
    │   │   └── StoreUnreachableError    its server does not answer, or not now
    │   ├── StoreCorruptError            the file is damaged or is no database
    │   └── SchemaTooNewError            written by a newer release than this one
    ├── DeliveryError                    a turn could not be accepted for delivery
    ├── ImportFileError                  a line of an export file cannot be read
    └── ExtractionError                  a learning step could not be completed
        └── UnusableAnswerError          a model answered, but not what it was asked for

Every message says what is wrong, where, and how to mend it. Nothing here is ever raised into an agent: in the
agent's path these are logged once and counted.
"""

from __future__ import annotations

from collections.abc import Sequence


class ReflexioError(Exception):
    """Base of every error raised by this project. Catch it to catch them all."""


class InvalidInputError(ReflexioError, ValueError):
    """An argument is unusable; nothing was stored. Read ``problems`` and mend the fields it names.

    Args:
        message: What is wrong in one sentence, without the fields.
        problems: ``(place, what is wrong there)`` pairs, e.g. ``("interactions[2].role", "must be a string")``.
    """

    def __init__(self, message: str, problems: Sequence[tuple[str, str]] = ()) -> None:
        self.problems = tuple(problems)
        if self.problems:
            message = f"{message}: " + "; ".join(f"{place}: {what}" for place, what in self.problems)
        super().__init__(message)


class StoreURLError(InvalidInputError):
    """The store URL cannot be understood. Use one of the forms that the message lists."""


class MissingExtraError(ReflexioError, ImportError):
    """An optional package is missing. Run the install command that the message gives."""

    def __init__(self, feature: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{feature} needs an optional package: pip install 'reflexio-middleware[{extra}]'")


class StoreError(ReflexioError):
    """The store could not do what was asked; its own error is the ``__cause__``."""


class StoreUnavailableError(StoreError):
    """The store cannot be opened, reached or locked. Captured turns wait in the spool until it can.

    Args:
        message: What went wrong, and where.
        retry_after: Seconds that the store asked to be left alone, where it named any.
        in_doubt: What was asked may have been done all the same: only the answer is missing.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, in_doubt: bool = False) -> None:
        self.retry_after = retry_after
        self.in_doubt = in_doubt
        super().__init__(message)


class StoreAccessError(StoreUnavailableError):
    """The store does not let us in. Mend the key or password in the settings; captured turns wait until then."""


class StoreUnreachableError(StoreUnavailableError):
    """The server of the store does not answer, or takes no more connections now. Start it, or mend host and port;
    captured turns wait until then."""


class StoreCorruptError(StoreError):
    """The file is damaged or is no SQLite database. Restore a backup, or name another file."""


class SchemaTooNewError(StoreError):
    """The database was written by a newer release. Upgrade ``reflexio-middleware``; nothing was changed."""


class DeliveryError(ReflexioError):
    """A turn could not be accepted for delivery (spool full or not writable); it was not stored."""


class ImportFileError(ReflexioError):
    """A line of an export file cannot be read. ``line`` is its number, counted from 1."""

    def __init__(self, path: str, line: int, reason: str) -> None:
        self.path, self.line, self.reason = path, line, reason
        super().__init__(f"{path}, line {line}: {reason}")


class ExtractionError(ReflexioError):
    """A learning step failed; nothing was stored from it. ``permanent`` says that trying again cannot help."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        self.permanent = permanent
        super().__init__(message)


class UnusableAnswerError(ExtractionError):
    """A model answered nonsense, or refused; nothing was stored from that piece of the session."""
