"""The tests on a kernel that has no openat2(2): `plugin` takes it away, for good, from all they start."""
