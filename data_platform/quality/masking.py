"""E-mail addresses in any text, made unreadable: for what people write into categories, notes and names of files.

Columns that hold personal data are marked `pii` in their contract and not shown at all. This is for the others, of
which nobody can know what a delivery puts into them.
"""

import polars as pl

# Always the same: its length tells nothing of the value's.
MASK = "•••"
# The sign, also in the wide and the small form of East Asian keyboards.
AT_SIGNS = "@＠﹫"

_AT = f"(?:[{AT_SIGNS}]|%40)"
# What stands around an address in a sentence, a mapping or a path. An apostrophe may stand within: o'brien@…
_WORD = r"""[^\s<>()"“”'=:/;,|]+"""
_ADDRESS = f"{_WORD}(?:'{_WORD})*{_AT}{_WORD}"


def masked(text: str) -> str:
    """`text` with MASK in place of whatever looks like an e-mail address."""
    if not any(sign in text for sign in (*AT_SIGNS, "%40")):
        return text
    # By Polars as well: one pattern in two engines would be two, and Python's takes long for long words.
    of_unicode = text.encode(errors="replace").decode()
    masked_text: str = pl.select(masked_expr(pl.lit(of_unicode))).item()
    return masked_text


def masked_expr(expr: pl.Expr) -> pl.Expr:
    """As `masked`, for every text of a column; null stays null."""
    return expr.str.replace_all(_ADDRESS, MASK)
