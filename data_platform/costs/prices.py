"""What prices.yaml says: what things cost from which day on, and the budget. Amounts are decimals, never floats."""

import difflib
from collections.abc import Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from data_platform.declared import ABSENT, UniqueKeyLoader, read_yaml
from data_platform.errors import SettingsError

MOST = Decimal(10) ** 9


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
        raise ValueError("it must be a number, such as 0.05")
    try:
        return Decimal(value)
    except InvalidOperation:
        raise ValueError(f"{value!r} is no number: write one such as 0.05, with a point") from None


def _amount(value: Decimal) -> Decimal:
    if not value.is_finite() or value > MOST:
        raise ValueError(f"it must be a number of at most {MOST:,}")
    if value < 0:
        raise ValueError(f"it is {value}, and nothing costs less than 0: write what is paid")
    return value


Amount = Annotated[Decimal, BeforeValidator(_number), AfterValidator(_amount)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Price(_Model):
    """What holds from the day `since` on (in the file: `from`), until the next entry.

    Per hour of CPU of our process, or per hour that a step takes (`instance_hour`, where a machine is paid by time);
    per GB and month of database and of lake; per GB that steps read and wrote; per month whatever runs. A GB is 10⁹
    bytes.
    """

    since: date = Field(alias="from")
    cpu_hour: Amount = Decimal(0)
    instance_hour: Amount = Decimal(0)
    database_gb_month: Amount = Decimal(0)
    lake_gb_month: Amount = Decimal(0)
    gb_read: Amount = Decimal(0)
    gb_written: Amount = Decimal(0)
    fixed_month: Amount = Decimal(0)

    @model_validator(mode="after")
    def _one_way(self) -> "Price":
        if self.cpu_hour and self.instance_hour:
            raise ValueError("it has both `cpu_hour` and `instance_hour`, so time would be paid twice: keep one")
        return self


class Budget(_Model):
    """What a month may cost; told of once a month costs, or seems to come to, more than `warn_percent` of it."""

    month: Amount
    warn_percent: Decimal = Field(default=Decimal(100), gt=0, le=100)


class Prices(_Model):
    """The file as a whole; `entries` (in the file: `prices`) are in order of their days."""

    currency: str = Field(pattern=r"^[A-Z]{3}$")
    budget: Budget | None = None
    entries: tuple[Price, ...] = Field(alias="prices", min_length=1)

    @model_validator(mode="after")
    def _in_order(self) -> "Prices":
        for former, latter in pairwise(self.entries):
            if latter.since == former.since:
                raise ValueError(f"two entries are from {latter.since}: keep one of them")
            if latter.since < former.since:
                raise ValueError(f"the entry from {latter.since} comes after that from {former.since}: put it before")
        return self

    @property
    def first_day(self) -> date:
        """The first day that has prices."""
        return self.entries[0].since

    def at(self, day: date) -> Price | None:
        """What held on `day`; None before the first entry."""
        return next((entry for entry in reversed(self.entries) if entry.since <= day), None)


def load_prices(path: Path) -> Prices | None:
    """What the file says; None where there is none, or nothing but comments in it.

    Raises SettingsError in one sentence naming the file, the key and the mend.
    """
    declared = read_yaml(path, without="have no prices", loader=_Loader)
    if declared is ABSENT or declared is None:
        return None
    if not isinstance(declared, dict):
        raise SettingsError(f"{path} must hold keys such as `currency:` and `prices:` at its left edge.")
    try:
        return Prices.model_validate(declared)
    except ValidationError as error:
        raise SettingsError(_sentence(path, error)) from None


def _sentence(path: Path, error: ValidationError) -> str:
    errors: list[Mapping[str, Any]] = [*error.errors(include_url=False)]
    # A key that is misspelt is missing as well: the misspelling is the mistake.
    first = min(errors, key=lambda one: one["type"] != "extra_forbidden")
    location = list(first["loc"])
    key = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")
    if first["type"] == "extra_forbidden":
        allowed = _keys_at(location)
        near = difflib.get_close_matches(str(location[-1]), allowed, n=1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        return f"{path}: {key} is no known key{meant}: use {', '.join(allowed[:-1])} or {allowed[-1]}."
    if first["type"] == "missing":
        return f"{path}: {key} is missing: add it."
    if key == "currency":
        return f"{path}: currency must be three capitals, such as EUR."
    if first["type"] == "value_error":
        return f"{path}: {key or 'prices'} cannot be used: {first['ctx']['error']}."
    if first["type"] in ("tuple_type", "model_type", "model_attributes_type", "too_short"):
        return (
            f"{path}: {key} must hold {'entries that begin with `- from: 2024-01-01`' if key == 'prices' else 'keys'}."
        )
    if location[-1] == "from":
        return f"{path}: {key} must be a day, such as 2024-01-01."
    return f"{path}: {key} cannot be used: {str(first['msg'])[0].lower()}{str(first['msg'])[1:]}."


def _keys_at(location: list[str | int]) -> list[str]:
    model: type[BaseModel] = Prices
    if len(location) > 1:
        model = Budget if location[0] == "budget" else Price
    return [field.alias or name for name, field in model.model_fields.items()]


class _Loader(UniqueKeyLoader):
    """YAML whose numbers with a point are decimals."""

    def twice(self, name: str) -> str:
        return f"{name} is given twice"

    def construct_decimal(self, node: yaml.ScalarNode) -> Decimal | str:
        text = str(self.construct_scalar(node))
        try:
            return Decimal(text)
        except InvalidOperation:
            return text


_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_decimal)
