"""One contestant's process: `python -m testproject.bench.child`.

It reads lines of JSON: first who it is, then jobs. It answers each with a line of JSON, which has
figures or an error, and ends when there are no more lines.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import Any

from . import trees

# Before pools start their threads: only threads that begin later are counted.
from .instructions import Counter


def main() -> None:
    counter = Counter()
    # What others print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**said: Any) -> None:
        print(json.dumps(said), file=answers, flush=True)

    spec = json.loads(sys.stdin.readline())
    if spec["gevent"]:
        from gevent import monkey

        monkey.patch_all()
    # Ignores unclosed connections: threads end without closing theirs, as servers' threads do.
    warnings.simplefilter("ignore")
    try:
        from .jobs import Jobs
        from .subjects import bare_subject, django_subject

        trees.import_package(spec["tree"])
        if spec["kind"] == "django":
            subject = django_subject(spec["database"], spec["app"])
        else:
            subject = bare_subject(spec["database"], spec["size"] if spec["kind"] == "pool" else 0)
        jobs = Jobs(subject, counter)
    except Exception as ex:
        return answer(error=_in_one_line(ex))
    answer(ready=True)
    for line in sys.stdin:
        try:
            answer(figures=jobs.run(**json.loads(line)))
        except Exception as ex:
            answer(error=_in_one_line(ex))


def _in_one_line(ex: BaseException) -> str:
    # Django hides why an engine can't be imported behind a list of its own engines.
    while ex.__cause__ is not None:
        ex = ex.__cause__
    return " ".join(f"{type(ex).__name__}: {ex}".split())[:300]


if __name__ == "__main__":
    main()
    # A pool's stuck thread must not keep the process from ending.
    os._exit(0)
