"""CDISC in (SDTM, ADaM) and out (SDTM). `door` says what it does; its parts stand beside it."""

from manikin.io.cdisc.door import read, read_frames, recognises, write

__all__ = ["read", "read_frames", "recognises", "write"]
