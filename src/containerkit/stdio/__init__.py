"""Pipes, waits and log entries: how bytes go in and out of a container's processes."""
