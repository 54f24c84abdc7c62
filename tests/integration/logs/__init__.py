"""Logs, terminals, attached input and init, on real containers."""
