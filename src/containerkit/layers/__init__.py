"""Layers: tar streams made into directory trees.

`compression` turns a blob's bytes into tar bytes, `apply` brings those, hashed, to the C applier.
Neighbours: `images.pull` gives chunks of a blob, `snapshots` names the finished trees.
"""
