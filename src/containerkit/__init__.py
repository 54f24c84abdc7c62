"""A container engine that is a Python library."""

from __future__ import annotations

__version__ = "0.1.0"
