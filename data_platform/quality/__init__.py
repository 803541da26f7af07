"""Rules and what became of them."""
