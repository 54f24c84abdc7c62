"""Care of an engine: what its host can do, whether its root is whole, what it costs, what can go."""
