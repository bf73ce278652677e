"""load.py URL SECONDS CLIENTS: calls a URL from several clients at once, each as soon as it has its answer.

Prints how many answers had status 200; any other answer, or none, is an error.
"""

from __future__ import annotations

import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

ANSWER_SECONDS = 60.0


def client(url: str, end: float) -> int:
    """The answers that one client got until `end` (time.monotonic()). urllib.error.URLError when one is not 200."""
    answers = 0
    while time.monotonic() < end:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as response:
            response.read()
        answers += 1
    return answers


if __name__ == "__main__":
    _, url, seconds, clients = sys.argv
    end = time.monotonic() + float(seconds)
    with ThreadPoolExecutor(int(clients)) as pool:
        sys.stdout.write(f"{sum(pool.map(lambda _: client(url, end), range(int(clients))))}\n")
