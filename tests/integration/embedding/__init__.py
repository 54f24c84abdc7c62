"""containerkit inside of programs of every kind."""
