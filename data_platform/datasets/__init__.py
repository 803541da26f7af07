"""Data to run the platform on: the demo shop's generator and the importers of public data sets."""
