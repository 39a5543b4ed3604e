"""Generators of linked tables: patients, their admissions, the measurements of each."""
