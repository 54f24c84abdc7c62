"""The care of a root: checked, measured, pruned."""
