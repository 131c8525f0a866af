"""An async web handler: one session scope per request, recall without blocking the event loop.

``app`` is a plain ASGI application: ``uvicorn examples.async_web:app`` serves it; FastAPI and Starlette handlers look
the same inside. Run as a script, it calls itself: python examples/async_web.py
"""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

import reflexio_middleware as reflexio

client = reflexio.AsyncReflexioClient(f"sqlite:///{Path(tempfile.mkdtemp()) / 'memory.db'}")


@reflexio.capture
async def agent(messages: list[dict[str, str]]) -> str:
    """Stands for your agent: it says back what its prompt holds."""
    prompt = await client.inject(messages)
    await asyncio.sleep(0.01)  # the model thinks
    return f"(prompt of {len(prompt[-1]['content'])} characters) You said: {messages[-1]['content']}"


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """POST {"message": ...} with the headers x-user and x-session."""
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    body = json.loads((await receive())["body"])
    async with reflexio.session(headers["x-session"], user_id=headers["x-user"], source="web_app"):
        answer = await agent([{"role": "user", "content": body["message"]}])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": answer.encode()})


async def post(user: str, session: str, message: str) -> str:
    """One request to ``app``, without a server around it."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps({"message": message}).encode()}

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    headers = [(b"x-user", user.encode()), (b"x-session", session.encode())]
    await app({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive, send)
    return str(sent[-1]["body"].decode())


async def main() -> None:
    """Two users at once; the first one's next conversation remembers."""
    async with client:
        await asyncio.gather(
            post("ann", "ann-1", "My dog is called Rex and I live in Porto."),
            post("bob", "bob-1", "Which vets are open in Porto?"),
        )
        await client.flush()
        for user in ("ann", "bob"):
            print(f"{user}: {await post(user, f'{user}-2', 'Find a vet in Porto, please.')}")
        for user in ("ann", "bob"):
            known = await client.get_profiles(user)
            print(f"{user}'s profiles: {[profile.content for profile in known.user_profiles]}")


if __name__ == "__main__":
    asyncio.run(main())
