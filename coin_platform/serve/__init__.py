"""The control API: what people and programs ask the platform over HTTP."""
