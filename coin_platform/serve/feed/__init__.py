"""The live feed: processed records and gaps, from the log to whoever listens."""
