"""The live worker: from raw topics to processed topics, dead letters and landing objects."""
