"""Chosen lines of the library, each broken on purpose, and the tests that must notice."""
