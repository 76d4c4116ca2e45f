"""Owns `python -m testproject.bench`: connection pools for Django side by side.

`contestants` says who takes part, `subjects` what each does, `jobs` what is timed in a child
process, `children` how the parent drives those processes by turns, `plan`, `measures`, `counting`
and `sites` what is measured, `figures` the arithmetic, `targets` the verdicts, `report`, `page` and `plot` what is
shown.
"""

from __future__ import annotations
