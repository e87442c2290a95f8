"""The command `bits`: a client of the API like any other."""
