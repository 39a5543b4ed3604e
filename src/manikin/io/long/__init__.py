"""Files of rows in and out. `door` says what it does; its parts stand beside it."""

from manikin.io.long.door import read, recognises, write

__all__ = ["read", "recognises", "write"]
