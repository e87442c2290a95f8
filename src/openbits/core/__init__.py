"""The pure part: values in, values out; no I/O, clock, log or random."""
