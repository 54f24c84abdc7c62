"""Kept containers while they live, asked of their launcher by packets."""
