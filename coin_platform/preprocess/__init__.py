"""From frames to rows: pure functions that the live worker and the assets share."""
