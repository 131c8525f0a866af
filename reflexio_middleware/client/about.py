"""What this client is: where it stores, and how it is set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from pydantic import SecretStr

from reflexio_middleware.client.core import Core
from reflexio_middleware.settings import Settings, masked
from reflexio_store.errors import InvalidInputError
from reflexio_store.models import WhoAmIResponse

_ORGANISATION = "self-host-org"
"""The organisation of every self-hosted server (wire fact)."""


class AboutApi(Core):
    """The part of the client that speaks of itself."""

    def whoami(self) -> WhoAmIResponse:
        """Where the record is kept, without any password."""
        store = self.store
        return WhoAmIResponse(
            org_id=_ORGANISATION, storage_type=store.kind, storage_label=store.url, message=f"Stored at {store.url}"
        )

    def get_config(self) -> dict[str, Any]:
        """The settings in force, by name, as JSON has them; keys and passwords are masked.

        The settings are ours (see the table in the README), not those of a server.
        """
        return {name: _shown(getattr(self.settings, name)) for name in Settings.model_fields}

    def set_config(self, config: Any) -> NoReturn:
        """Refused: settings are given where the client is made.

        Raises:
            InvalidInputError: Always; it says how to set what was asked for.
        """
        _refuse(config)

    def update_config(self, partial: Any) -> NoReturn:
        """Refused, as :meth:`set_config` is."""
        _refuse(partial)


def _shown(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return "**********"
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return masked(str(value))


def _refuse(config: Any) -> NoReturn:
    asked = [str(name) for name in config] if isinstance(config, Mapping) else []
    known = [name for name in asked if name in Settings.model_fields]
    how = "ReflexioClient({0}=...) or REFLEXIO_{1}"
    if known:
        told = "; ".join(f"{name}: {how.format(name, name.upper())}" for name in known)
    else:
        told = f"{how.format('<name>', '<NAME>')}, where <name> is one of {', '.join(Settings.model_fields)}"
    raise InvalidInputError(f"The settings of a client cannot be changed once it is made. Set them with {told}")
