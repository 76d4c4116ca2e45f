"""Checks the budget of one alias; asks no server."""

from __future__ import annotations

from collections.abc import Iterator

from django.core.checks import CheckMessage

from ..pooling.config import PoolConfig
from ..runtime_dir import RuntimeDirError, shared_dir
from . import serving
from .messages import message


def check_budget(alias: str, config: PoolConfig) -> Iterator[CheckMessage]:
    """Yield what keeps the processes of `alias` from sharing their budget, if there is one."""
    if config.budget is None:
        return
    processes = serving.processes()
    if processes and processes.number * config.min_size > config.budget:
        yield message(
            "W014",
            f"{processes.number} processes ({processes.source}) x 'min_size' {config.min_size} = "
            f"{processes.number * config.min_size} connections are more than the 'budget' of "
            f"{config.budget}: some processes will have none, and wait for others to give one up.",
            "Raise 'budget', or set 'min_size' to 0 so that connections go where they are needed.",
            alias,
        )
    try:
        shared_dir()
    except RuntimeDirError as ex:
        yield message(
            "W015",
            f"The processes can't share their 'budget', so they won't connect: {ex}",
            "Set POOLED_PG_RUNTIME_DIR to a folder that only the site's user can use.",
            alias,
        )
