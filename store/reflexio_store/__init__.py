"""The record: models, one contract, and the homes that keep it."""
