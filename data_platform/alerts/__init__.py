"""Alerts: what is wrong with the platform, told once to whom it concerns, and told again when it is over."""
