"""Ratios of ways to do the same work, measured side by side: `make bench`."""
