"""Tests with real namespaces, mounts, registries and processes; they need root."""
