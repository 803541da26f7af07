"""What is kept for how long: leftovers, Dagster's log, old raw, old staging, dead rows. A module a step."""
