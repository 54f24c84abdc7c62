"""The root directory: locks, atomic files, the catalog.  Rank 1: knows no images, no containers."""
