"""Generators of histories: the events of a patient over time."""
