"""What every dimension with history has: the span of a version, and the rules that it keeps."""

import datetime

import pandera.polars as pa
import polars as pl

from data_platform.contracts.contract import column
from data_platform.contracts.rules import Rule


class Version(pa.DataFrameModel):
    """The span of days for which a version of a member held."""

    effective_from: datetime.date = column("First day of the version, business time.", nullable=False)
    effective_to: datetime.date = column("Day the version ended, exclusive; null while it is the last.")
    is_current: bool = column("True for the version that holds now.", nullable=False)
    is_inferred: bool = column("True for a member that facts name and no delivery has told of.", nullable=False)


VERSION_RULES = (
    Rule("version_ends_after_it_starts", "critical", "A version lasts at least a day.",
         pl.col("effective_to") > pl.col("effective_from")),
    Rule("open_version_is_current", "critical", "The current version is the one without an end.",
         pl.col("is_current") == pl.col("effective_to").is_null()),
)  # fmt: skip
