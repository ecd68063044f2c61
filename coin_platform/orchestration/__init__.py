"""Dagster: the long runs, the windows, the tables and their checks."""
