"""From a session to learnings: extractors, consolidation and the worker that runs them."""
