"""Programs to read and to run: each shows one procedure from its first call to its last."""
