"""What assets and IO managers share: the settings, the lake, the warehouse and the sources. Nothing connects early."""

from functools import cached_property

import dagster as dg

from data_platform.contracts import STAGED
from data_platform.costs.recording import watch_run
from data_platform.lake import Lake
from data_platform.settings import Settings, settings
from data_platform.sources.config import Source, load_sources
from data_platform.transforms.staging import delivered_columns
from data_platform.warehouse.migrations import ready_warehouse


class Platform(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The platform as the environment describes it; tests hand in other settings by `Platform.using`."""

    @classmethod
    def using(cls, chosen: Settings) -> "Platform":
        """A platform on given settings."""

        # A class of its own: Dagster makes a resource anew for each run, by its class and its fields alone.
        class Chosen(cls):  # type: ignore[valid-type,misc]
            @property
            def settings(self) -> Settings:
                return chosen

        platform: Platform = Chosen()
        return platform

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Have what the steps of a run take recorded: each process of a run makes its resources before them."""
        watch_run(self, context)

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return settings()

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
