"""The Python tests on a build of the C core with address and undefined-behaviour sanitizers."""
