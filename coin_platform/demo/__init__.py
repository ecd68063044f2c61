"""The main job, end to end, with a report that must add up."""
