"""Containers run: what a caller gets, what a container sees, what is left."""
