"""A person's right to be forgotten: who was erased, and what is done to rows and texts that name them."""
