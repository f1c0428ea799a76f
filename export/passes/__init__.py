"""Graph passes, one transformation a file."""
