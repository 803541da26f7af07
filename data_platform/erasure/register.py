"""Who was erased: in the lake, so that a delivery which is read again does not bring a person back.

Beside each keyed hash of an id stands the pseudonym that took its place. The key lies with them, since every read of a
delivery needs it: who may read the lake can test whether an id that they know was erased, and learn no other.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from data_platform.errors import PlatformError
from data_platform.lake import Lake

DOCUMENT = "_erased/register.json"
PSEUDONYM = "erased-"


@dataclass(frozen=True)
class Register:
    """The erased ids. `entries` has by keyed hash the pseudonym; an empty register costs a read nothing."""

    key: bytes = b""
    entries: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, lake: Lake) -> "Register":
        """The register of `lake`; empty where nobody was erased."""
        return cls._parsed(lake.read_document(DOCUMENT))

    @classmethod
    def _parsed(cls, content: bytes | None) -> "Register":
        if content is None:
            return cls()
        try:
            told = json.loads(content)
            entries = {digest: entry["pseudonym"] for digest, entry in told["erased"].items()}
            return cls(bytes.fromhex(told["key"]), entries)
        except (ValueError, KeyError, TypeError, AttributeError):
            # Going on without it would bring everybody back.
            raise PlatformError(
                f"{DOCUMENT} in the lake, which says who was erased, cannot be read: restore it from a backup."
            ) from None

    def digest(self, customer_id: str) -> str:
        """The keyed hash of an id (NFC text without surrounding blanks)."""
        return hmac.new(self.key, customer_id.encode(), hashlib.sha256).hexdigest()

    def among(self, ids: Iterable[str | None]) -> dict[str, str]:
        """Of `ids` those that were erased, with their pseudonyms."""
        if not self.entries:
            return {}
        digests = {one: self.digest(one) for one in ids if one is not None}
        return {one: self.entries[digest] for one, digest in digests.items() if digest in self.entries}


def enter(lake: Lake, customer_id: str, prefixes: Iterable[str]) -> Register:
    """Enter an id, once: a second call keeps its pseudonym. Returns the register with it.

    `prefixes` are those that mappings put before ids: the pseudonym of an id with one has it as well.
    """
    before = max((one for one in prefixes if customer_id.startswith(one)), key=len, default="")
    pseudonym = before + PSEUDONYM + secrets.token_hex(12)
    lake.update_document(DOCUMENT, partial(_entered, customer_id=customer_id, pseudonym=pseudonym))
    return Register.of(lake)


def _entered(content: bytes | None, *, customer_id: str, pseudonym: str) -> bytes:
    told: dict[str, Any] = json.loads(content) if content else {"key": secrets.token_hex(32), "erased": {}}
    digest = Register(bytes.fromhex(told["key"])).digest(customer_id)
    entry = {"pseudonym": pseudonym, "at": datetime.now(UTC).isoformat(timespec="seconds")}
    told["erased"].setdefault(digest, entry)
    return json.dumps(told, indent=1, sort_keys=True).encode()
