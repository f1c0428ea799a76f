"""What loads a model: a name or a folder becomes a checked bundle."""
