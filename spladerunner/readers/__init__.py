"""Files of texts to records, by one set of rules for every command."""
