"""Transforms of a table of real rows: what they give holds real rows still."""
