"""Tests without root, network or processes; each takes milliseconds."""
