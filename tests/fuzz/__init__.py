"""Fuzzing: targets of the C core for libFuzzer, their seeds, and `make fuzz`."""
