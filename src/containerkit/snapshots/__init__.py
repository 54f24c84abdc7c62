"""Unpacked layers, who uses them, and their removal.  Rank 4: produces mount values, never mounts."""
