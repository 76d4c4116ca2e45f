"""`python -m testproject.bench`: connection pools for Django side by side.

`contestants` says who takes part, `subjects` what each does, `jobs` what is timed in a child
process, `children` how the parent runs those processes in turns. `plan`, `measures`, `counting`
and `sites` say what is measured. `figures` does the arithmetic, `targets` gives the verdicts;
`report`, `page` and `plot` show the results.
"""

from __future__ import annotations
