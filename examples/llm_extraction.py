"""Learning by a model: any OpenAI-compatible endpoint. Needs ``reflexio-middleware[openai]``.

Here the endpoint is a local server that speaks the real protocol with scripted answers; for a real one, set
``llm_base_url``, ``llm_api_key`` and ``llm_model`` (or REFLEXIO_LLM_BASE_URL, ...).
Run it: python examples/llm_extraction.py
"""

import json
import tempfile
from pathlib import Path

import reflexio_middleware as reflexio
from reflexio_middleware.testing import ScriptedModelServer

SCRIPTED = {
    "changes": [
        {"action": "add", "kind": "profile", "content": "Runs a bakery with four employees.", "turns": [1]},
        {
            "action": "add", "kind": "user_playbook", "content": "Quote prices without VAT.",
            "trigger": "a question about prices or offers", "rationale": "The user corrected an offer.", "turns": [3],
        },
    ]
}  # fmt: skip

with ScriptedModelServer([json.dumps(SCRIPTED)]) as server:
    client = reflexio.ReflexioClient(
        f"sqlite:///{Path(tempfile.mkdtemp()) / 'memory.db'}",
        extractor="llm",
        llm_base_url=server.base_url,
        llm_api_key="not-needed-here",
        llm_model="scripted",
    )
    answer = client.publish_interaction(
        user_id="ann",
        session_id="offers",
        interactions=[
            {"role": "user", "content": "I run a bakery, we are four. What does the oven cost?"},
            {"role": "assistant", "content": "The oven is 11,900 EUR including VAT."},
            {"role": "user", "content": "We reclaim VAT, so show me net prices."},
        ],
        wait_for_response=True,
    )
    print(f"learning: {answer.learning_status}, profiles: {answer.profiles_added}, playbooks: {answer.playbooks_added}")
    print(client.recall("Make me an offer with prices for the small oven.", user_id="ann"))
    print(f"the model was asked {len(server.requests)} time(s)")
    client.close()
