"""Names by which results of checks are known wherever they are read, without loading what makes them."""

# What looks at a source, and at its quarantine, as of a day.
YESTERDAY = "yesterday_is_delivered"
GAPS = "partitions_have_no_gaps"
TRADING = "trading_days_are_delivered"
WAITING = "quarantine_is_young"
BUDGET = "cost_is_within_budget"
# The asset that these are checks of, and that they make a page of.
REPORT = "quality_report"

# How the note of a check begins that was to look at what stands and could not.
UNMADE = "It could not be checked: "
