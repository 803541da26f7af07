"""What assets and IO managers share: the settings, the lake, the warehouse and the sources. Nothing connects early."""

from functools import cached_property

import dagster as dg
from pydantic import PrivateAttr

from data_platform.contracts import STAGED
from data_platform.lake import Lake
from data_platform.settings import Settings, settings
from data_platform.sources.config import Source, load_sources
from data_platform.transforms.staging import delivered_columns
from data_platform.warehouse.migrations import ready_warehouse


class Platform(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The platform as the environment describes it; tests hand in other settings by `Platform.using`."""

    _settings: Settings | None = PrivateAttr(default=None)

    @classmethod
    def using(cls, chosen: Settings) -> "Platform":
        """A platform on given settings."""
        platform = cls()
        platform._settings = chosen
        return platform

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._settings or settings()

    @property
    def lake(self) -> Lake:
        """The lake."""
        return Lake.of(self.settings)

    @property
    def warehouse_url(self) -> str:
        """The warehouse, its server started and its schema up to date."""
        return ready_warehouse(self.settings)

    @cached_property
    def sources(self) -> dict[str, Source]:
        """The sources by entity, as sources.yaml declares them."""
        columns = {entity: delivered_columns(contract) for entity, contract in STAGED.items()}
        return load_sources(self.settings.sources_file, columns)
