"""What the peers share: they take work as lines of JSON on standard input and answer with lines of JSON."""

import json
import os
import sys
from time import perf_counter


def serve(make):
    """Answers with what `make` returns first: what this program is. Then does the works that it returns second, by
    name, each timed alone; the first error of making them is the only answer."""
    # Libraries print where answers go.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**what):
        print(json.dumps(what), file=answers, flush=True)

    try:
        version, works = make()
    except Exception as error:
        answer(error=f"{type(error).__name__}: {error}")
        return
    answer(ready=version)
    for line in sys.stdin:
        request = json.loads(line)
        work, arguments = works[request["work"]], request["arguments"]
        start = perf_counter()
        try:
            value = work(**arguments)
        except Exception as error:
            answer(error=f"{type(error).__name__}: {error}")
        else:
            answer(milliseconds=1e3 * (perf_counter() - start), value=value)
