"""What Docker and podman do with the same image, recorded, to be compared with what we do.

`cases` is the table, `record` runs it in a dockerd and a podman of its own, `recorded.json` is what
came of it, `tests/integration/peers` compares.
"""
