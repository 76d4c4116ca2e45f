"""Validates the snapshots of other processes; asks for none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..pooling.counters import BOUNDS
from ..pooling.statistics import DURATIONS, PoolStatistics

# See `snapshot.VERSION`.
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessReport:
    """One process's answer: either its snapshot (see `process_snapshot`) or an error."""

    pid: int
    snapshot: dict[str, Any] | None = None
    error: str | None = None

    def pools(self, database: str | None = None) -> list[dict[str, Any]]:
        """Return the pools in the snapshot; with `database`, those of that alias only."""
        return self._of("pools", database)

    def holders(self, database: str | None = None) -> list[dict[str, Any]]:
        """Return the snapshot's holders, each with its process; `database` as in `pools`."""
        process = (self.snapshot or {}).get("process")
        about = {"pid": self.pid, "process": process}
        return [about | holder for holder in self._of("holders", database)]

    def _of(self, key: str, database: str | None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (self.snapshot or {}).get(key, [])
        return [each for each in found if database is None or each["alias"] == database]


# What a value must be: in words, and as a test.
_Kind = tuple[str, Callable[[Any], bool]]


def _is_number(value: Any) -> bool:
    # Excludes NaN, infinity and numbers too large for a float.
    return type(value) in (int, float) and 0 <= value < 2**63


def _is_histogram(value: Any) -> bool:
    return isinstance(value, list) and (
        len(value) == len(BOUNDS) + 1 and all(type(n) is int and _is_number(n) for n in value)
    )


_NUMBER: _Kind = ("a number", _is_number)
_HISTOGRAM: _Kind = (f"a histogram of {len(BOUNDS) + 1}", _is_histogram)
_TEXT: _Kind = ("a string", lambda value: isinstance(value, str))
_TRUTH: _Kind = ("true or false", lambda value: isinstance(value, bool))
_TEXT_OR_NULL: _Kind = ("a string or null", lambda value: isinstance(value, str | None))
_NUMBER_OR_NULL: _Kind = ("a number or null", lambda value: value is None or _is_number(value))
_LIST: _Kind = ("a list", lambda value: isinstance(value, list))
_KINDS = {
    "int": _NUMBER,
    "float": _NUMBER,
    "str": _TEXT,
    "bool": _TRUTH,
}
_OF_PROCESS = {
    **dict.fromkeys(("pid", "parent_pid", "started"), _NUMBER),
    "process": _TEXT,
    "holders": _LIST,
}
_OF_DURATIONS = {"total": _NUMBER, "max": _NUMBER, "buckets": _HISTOGRAM}
_OF_POOL = {
    field.name: _KINDS[str(field.type)]
    for field in fields(PoolStatistics)
    if field.name not in DURATIONS
}
_OF_HOLDER = {
    **dict.fromkeys(("alias", "name", "thread", "place"), _TEXT),
    **dict.fromkeys(("thread_id", "held"), _NUMBER),
    "pinned": _TEXT_OR_NULL,
    "abandoned": _TRUTH,
    "remaining": _NUMBER_OR_NULL,
}


def checked(snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """Return the known parts of what `process_snapshot` returned elsewhere.

    Raises `ValueError` if anything is missing or wrong.
    """
    if not isinstance(snapshot.get("pools"), list):
        raise ValueError("not a snapshot")
    if snapshot.get("version") != _VERSION:
        raise ValueError(
            f"its snapshot has version {str(snapshot.get('version'))[:20]}, not {_VERSION}; "
            "does that process run another release?"
        )
    process = _checked("a snapshot", snapshot, _OF_PROCESS)
    pools = [
        _checked("a pool", pool, _OF_POOL)
        | {of: _checked(f"a pool's {of!r}", pool.get(of), _OF_DURATIONS) for of in DURATIONS}
        for pool in snapshot["pools"]
    ]
    holders = [_checked("a holder", holder, _OF_HOLDER) for holder in process["holders"]]
    return {**process, "pools": pools, "holders": holders}


def _checked(what: str, found: object, kinds: Mapping[str, _Kind]) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ValueError(f"{what} is not a JSON object")
    for name, (words, fits) in kinds.items():
        if name not in found:
            raise ValueError(f"{what} without {name!r}")
        if not fits(found[name]):
            raise ValueError(f"{what} whose {name!r} is not {words}")
    # A later release may send more; we can't validate that, so we drop it.
    return {name: found[name] for name in kinds}
