"""Adapters to agent frameworks, one package each: they translate, they decide nothing."""
