"""OMOP CDM 5.4 in and out. `door` says what it does; its parts stand beside it."""

from manikin.io.omop.door import flow, read, recognises, stream, write

__all__ = ["flow", "read", "recognises", "stream", "write"]
