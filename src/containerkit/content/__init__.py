"""Content-addressed blobs.  Rank 2: knows no registry and no image."""
