"""Nothing to a learned fact, in one file: capture, learn, recall. Run it: python examples/quickstart.py"""

import tempfile
from pathlib import Path

import reflexio_middleware as reflexio

store = Path(tempfile.mkdtemp()) / "memory.db"  # yours: any path, or ReflexioClient() for the user's data folder
client = reflexio.ReflexioClient(f"sqlite:///{store}")


@reflexio.capture
def agent(question: str) -> str:
    """Stands for your agent: whatever takes a question and gives an answer."""
    return "I have booked a table for two at the steak house."


with reflexio.session("monday", user_id="ann", agent_version="v1"):
    agent("Book a dinner table. By the way, I am vegetarian.")
    agent("No, book a vegetarian restaurant, not a steak house.")

client.flush()

print("What was said:")
for session in client.get_requests(user_id="ann").sessions:
    for data in reversed(session.requests):
        for item in data.interactions:
            print(f"  {item.role}: {item.content}")

print("\nWhat was learned:")
for profile in client.get_profiles("ann").user_profiles:
    print(f"  fact: {profile.content}")
for playbook in client.get_user_playbooks(user_id="ann").user_playbooks:
    print(f"  rule: {playbook.content}")

print("\nWhat the next conversation's prompt carries:")
with reflexio.session("tuesday", user_id="ann", agent_version="v1"):
    for message in client.inject([{"role": "user", "content": "Book a dinner table for four."}]):
        print(message["content"])

client.close()
