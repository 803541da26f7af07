"""What runs cost: measured by step, priced by prices.yaml, reported, extrapolated, held against a budget."""
