"""The agent of the demo: a small function stands in the place of a model, and answers what its prompt says."""

from __future__ import annotations

from typing import Any, Final

import reflexio_middleware as reflexio
from reflexio_middleware.client import ReflexioClient

SYSTEM: Final = "You tell travellers distances."
_KILOMETRES: Final = {("Berlin", "Paris"): 878, ("Paris", "Madrid"): 1054}
_KILOMETRES_PER_MILE: Final = 1.609344

Prompt = list[dict[str, Any]]


class TravelAgent:
    """An agent that tells distances in miles, unless its prompt says otherwise.

    ``prompts`` holds what the model was sent, one prompt for each turn.
    """

    def __init__(self, client: ReflexioClient) -> None:
        self.prompts: list[Prompt] = []
        self._client = client
        self._history: Prompt = []

    @reflexio.capture
    def ask(self, question: str) -> str:
        """Answer one message of the user; the call is captured as one turn."""
        self._history.append({"role": "user", "content": question})
        prompt = self._client.inject([{"role": "system", "content": SYSTEM}, *self._history], timeout=5.0)
        self.prompts.append(prompt)
        answer = _model(prompt)
        self._history.append({"role": "assistant", "content": answer})
        return answer


def _model(prompt: Prompt) -> str:
    """What stands in the place of a model: it knows only what the prompt holds, and may call one tool."""
    told = " ".join(message["content"] for message in prompt if message["role"] != "assistant")
    start, end = next(pair for pair in reversed(_KILOMETRES) if all(city in told for city in pair))
    kilometres = _distance(start, end)
    if "kilometres" in told.lower():
        return f"{start} to {end}: {kilometres:,} km."
    return f"{start} to {end}: {kilometres / _KILOMETRES_PER_MILE:,.0f} miles."


def _distance(start: str, end: str) -> int:
    """The tool, noted on the turn in which it is called."""
    kilometres = _KILOMETRES[start, end]
    turn = reflexio.current_turn()
    if turn is not None:
        turn.tool("road_distance", {"from": start, "to": end}, {"km": kilometres})
    return kilometres
