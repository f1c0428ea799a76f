"""What runs a text: tokenizer, scheduler, session, pooling, in the order in which it passes them."""
