"""Generators fitted on data: one folder a modality, one file a method."""
