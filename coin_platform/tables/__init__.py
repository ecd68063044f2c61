"""What a record becomes: rows, dead letters and gaps. Windows and the live worker share these rules."""
