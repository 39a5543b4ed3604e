"""Generators of tables, on one shared encoder."""
