"""What completes a day's files: a manifest beside them, with their rows and checksums.

`{"rows": 1200, "files": {"a.csv": {"sha256": "…"}}}`, either may be left out; what else it says is passed over.
"""

from collections.abc import Mapping
from datetime import date
from pathlib import PurePosixPath

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data_platform.errors import DeliveryRejected

MAX_BYTES = 16 * 1024 * 1024


class Promise(BaseModel):
    """What a manifest says of one file."""

    model_config = ConfigDict(frozen=True, extra="allow")

    sha256: str | None = Field(default=None, pattern="^[0-9A-Fa-f]{64}$")
    md5: str | None = Field(default=None, pattern="^[0-9A-Fa-f]{32}$")


class FilesManifest(BaseModel):
    """What a manifest says of a day."""

    model_config = ConfigDict(frozen=True)

    rows: int | None = Field(default=None, ge=0, strict=True)
    files: Mapping[str, Promise] = Field(default_factory=dict)

    def checksums(self, path: str, label: str) -> dict[str, str]:
        """Of one of the files, by algorithm; raises DeliveryRejected where it is told of without any."""
        promise = self.files.get(PurePosixPath(path).name, Promise())
        told = {"sha256": promise.sha256, "md5": promise.md5}
        known = {kind: value.casefold() for kind, value in told.items() if value is not None}
        if promise.model_fields_set and not known:
            raise DeliveryRejected(f"{label} has no sha256 or md5 in the manifest: write one.")
        return known

    def refuse_unfulfilled(self, place: str, day: date) -> None:
        """Raise DeliveryRejected where it tells of rows or files, and none is there: not yet, or lost."""
        if self.rows or self.files:
            told = f"{self.rows} rows" if self.rows else f"{len(self.files)} files"
            raise DeliveryRejected(
                f"{place}: the manifest of {day} tells of {told}, and no file is there: have it delivered, or take "
                "the manifest away."
            )


def parse_files_manifest(content: bytes, place: str, day: date) -> FilesManifest:
    """The manifest of `day`; raises DeliveryRejected for what is none."""
    try:
        return FilesManifest.model_validate_json(content.removeprefix(b"\xef\xbb\xbf"))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = f"{'.'.join(map(str, first['loc']))!a}: " if first["loc"] else ""
        said = first["msg"].partition(" at line")[0]
        raise DeliveryRejected(
            f"{place}: the manifest of {day} is none ({where}{said}): write "
            '{"rows": 12, "files": {NAME: {"sha256": …}}}.'
        ) from None
