"""Streams, sync and async: the chunks reach the consumer as they come, and the turn keeps the joined text.

Also when the consumer stops half way: the turn is kept as ``partial``. Run it: python examples/streaming.py
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import reflexio_middleware as reflexio

client = reflexio.ReflexioClient(f"sqlite:///{Path(tempfile.mkdtemp()) / 'memory.db'}")


@reflexio.capture
def tell(prompt: str) -> Iterator[str]:
    """A streaming agent: a generator stays a generator."""
    yield from ("Once ", "upon ", "a ", "time.")


@reflexio.capture
async def tell_async(prompt: str) -> AsyncIterator[str]:
    """An async generator stays one, too."""
    for chunk in ("Far ", "far ", "away."):
        await asyncio.sleep(0)
        yield chunk


async def main() -> None:
    """Three streams; the second is left early."""
    async with reflexio.session("stories", user_id="ann"):
        print("".join(tell("Tell me a story.")))
        for chunk in tell("Another one."):
            print(chunk, "... that is enough, thanks.")
            break
        print("".join([chunk async for chunk in tell_async("And a last one.")]))


asyncio.run(main())
for data in reversed(client.get_requests(session_id="stories").sessions[0].requests):
    question, answer = data.interactions
    print(f"{data.request.status:<10} {question.content!r} -> {answer.content!r}")
client.close()
