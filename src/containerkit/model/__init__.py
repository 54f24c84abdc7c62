"""Frozen values without I/O: what the parts hand to one another."""
