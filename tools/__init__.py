"""Make targets that are no tests."""
