"""The commands of `coin`, one file for each noun."""
