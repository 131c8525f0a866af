"""What a model is asked to look for, as a person wrote it down: in a TOML file, or as arguments.

::

    [profile.travel]
    instruction = "Seats, airlines and meals that the user prefers."

    [user_playbook.refunds]
    instruction = "How the user wants refunds to be handled."
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

from reflexio_store.errors import InvalidInputError

KINDS: Final = ("profile", "user_playbook")
_MAX_INSTRUCTION: Final = 4_000


@dataclass(frozen=True, slots=True)
class Definition:
    """One thing to look for: profiles, or user playbooks, of a ``name`` of one's own (it becomes one of the
    ``extractor_names`` of a profile, and the ``playbook_name`` of a playbook), by an ``instruction`` in words."""

    name: str
    kind: Literal["profile", "user_playbook"]
    instruction: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What a model was told: by which extractor, the prompt, and the definitions in it by name."""

    extractor: str
    prompt: str
    definitions: Mapping[str, Definition]

    def wants(self, name: str, kind: str) -> bool:
        """Whether a learning of a kind belongs to the definition of that name; anything does where there is none."""
        definition = self.definitions.get(name)
        return not self.definitions or (definition is not None and definition.kind == kind)

    def names(self, name: str) -> list[str]:
        """The names that a learning of a definition is filed under."""
        return [self.extractor, name] if name in self.definitions else [self.extractor]


def read_definitions(path: Path) -> list[Definition]:
    """The definitions in a TOML file.

    Raises:
        InvalidInputError: It cannot be read, or says something else; the message names the place.
    """
    try:
        said = tomllib.loads(path.expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInputError("The definitions cannot be read", [(str(path), str(error))]) from error
    found: list[Definition] = []
    problems: list[tuple[str, str]] = []
    for kind, named in said.items():
        if kind not in KINDS or not isinstance(named, dict):
            problems.append((kind, f"is no section; there are [{KINDS[0]}.NAME] and [{KINDS[1]}.NAME]"))
            continue
        for name, values in named.items():
            problem = _problem(values)
            if problem or name in {definition.name for definition in found}:
                problems.append((f"{kind}.{name}", problem or "is a name that is taken"))
            else:
                found.append(Definition(name, cast(Any, kind), values["instruction"].strip()))
    if problems or not found:
        raise InvalidInputError(f"The definitions in {path} cannot be used", problems or [("file", "is empty")])
    return found


def _problem(values: Any) -> str:
    text = values.get("instruction") if isinstance(values, dict) else None
    if not isinstance(text, str) or not text.strip():
        return "needs an instruction in words"
    if unknown := set(values) - {"instruction"}:
        return f"has unknown fields: {', '.join(sorted(unknown))}"
    return f"is longer than {_MAX_INSTRUCTION} characters" if len(text) > _MAX_INSTRUCTION else ""


def asked_for(definitions: Sequence[Definition]) -> str:
    """The end of a prompt that says what to look for; nothing without definitions."""
    if not definitions:
        return ""
    lines = [f"- `{item.name}` ({item.kind}): {' '.join(item.instruction.split())}" for item in definitions]
    return (
        "\n## What to look for\nWrite down what belongs to one of these, and nothing else. Each change has one field "
        "more, `definition`: the name of the one it belongs to.\n" + "\n".join(lines) + "\n"
    )
