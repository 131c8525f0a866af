"""From learnings to a prompt: choosing, rendering, injecting."""
