"""Doors: one file format a module, in and out, and the model bundle."""
