"""What each table is, a module a layer."""

import warnings

import dagster as dg

# Beta parameters are used knowingly: pyproject.toml pins Dagster to one release, and tests pin what they do.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
