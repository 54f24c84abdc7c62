"""Tests: unit, property, integration, native, and the support they share."""
