"""What every long process does at its start and at its end."""
