"""Owns what other processes' snapshots must look like to be believed; asks for none."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from ..pooling.statistics import BOUNDS, PoolStatistics

# See `snapshot.VERSION`.
_VERSION = 1
_FIELDS = fields(PoolStatistics)
_NUMBERS = [field.name for field in _FIELDS if field.type in ("int", "float")]
_BUCKETS = [field.name for field in _FIELDS if field.name.endswith("_buckets")]
_TEXTS = [field.name for field in _FIELDS if field.type == "str"]
_HOLDER_TEXTS = ("alias", "name", "thread", "place")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessReport:
    """What one process said: either its snapshot (see `process_snapshot`) or an error."""

    pid: int
    snapshot: dict[str, Any] | None = None
    error: str | None = None

    def pools(self, database: str | None = None) -> list[dict[str, Any]]:
        """Return the pools in the snapshot; with `database`, those of that alias only."""
        return self._of("pools", database)

    def holders(self, database: str | None = None) -> list[dict[str, Any]]:
        """Return the holders in the snapshot, each with the `pid`; with `database`, as `pools`."""
        return [{"pid": self.pid, **holder} for holder in self._of("holders", database)]

    def _of(self, key: str, database: str | None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (self.snapshot or {}).get(key, [])
        return [each for each in found if database is None or each["alias"] == database]


def check_snapshot(snapshot: dict[str, Any]) -> None:
    """Raise `ValueError` unless it is what `process_snapshot` returns."""
    if not isinstance(snapshot.get("pools"), list):
        raise ValueError("not a snapshot")
    if snapshot.get("version") != _VERSION:
        raise ValueError(
            f"its snapshot has version {str(snapshot.get('version'))[:20]}, not {_VERSION}; "
            "is it of an older release?"
        )
    if not isinstance(snapshot.get("process"), str):
        raise ValueError("'process' is missing")
    for pool in snapshot["pools"]:
        _check_pool(pool)
    holders = snapshot.get("holders", [])
    if not isinstance(holders, list):
        raise ValueError("'holders' is not a list")
    for holder in holders:
        _check_holder(holder)


def _check_pool(pool: object) -> None:
    if not isinstance(pool, dict):
        raise ValueError("a pool is not a JSON object")
    for field in _FIELDS:
        if field.name not in pool:
            raise ValueError(f"a pool without {field.name!r}")
    for name in _NUMBERS:
        if not isinstance(pool[name], int | float):
            raise ValueError(f"a pool whose {name!r} is not a number")
    for name in _TEXTS:
        if not isinstance(pool[name], str):
            raise ValueError(f"a pool whose {name!r} is not a text")
    for name in _BUCKETS:
        value = pool[name]
        if not isinstance(value, list) or [type(n) for n in value] != [int] * (len(BOUNDS) + 1):
            raise ValueError(f"a pool whose {name!r} is not a histogram of {len(BOUNDS) + 1}")


def _check_holder(holder: object) -> None:
    if not isinstance(holder, dict):
        raise ValueError("a holder is not a JSON object")
    for name in _HOLDER_TEXTS:
        if not isinstance(holder.get(name), str):
            raise ValueError(f"a holder whose {name!r} is not a text")
    if not isinstance(holder.get("held"), int | float):
        raise ValueError("a holder whose 'held' is not a number")
    if not isinstance(holder.get("pinned"), str | None):
        raise ValueError("a holder whose 'pinned' is neither a text nor null")
