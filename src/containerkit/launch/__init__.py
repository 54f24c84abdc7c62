"""Launch plans: compile, encode, explain.  Pure; imports only `model` and `errors`."""
