"""Rules that data obey: declared constraints and the conditions they are written in."""
