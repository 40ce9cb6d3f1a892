"""Shows what pip says as one line that changes, with the time it took so far: `pip install … | python .ci/progress.py`.

Installing 7 GB takes minutes, much of them in one step without a word.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from contextlib import suppress


def main() -> None:
    said, started, over = [""], time.monotonic(), threading.Event()

    def show() -> None:
        while not over.wait(0.5):
            minutes, seconds = divmod(int(time.monotonic() - started), 60)
            line = f"  {minutes}:{seconds:02d}  {said[0]}"
            sys.stdout.write(f"\r\033[K{line[: shutil.get_terminal_size().columns - 1]}")
            sys.stdout.flush()
        sys.stdout.write("\r\033[K")

    shown = threading.Thread(target=show)
    shown.start()
    with suppress(KeyboardInterrupt):  # pip has it, too, and says so
        for line in sys.stdin:
            if line.strip() and not line.startswith("Requirement already satisfied"):
                said[0] = line.strip()
    over.set()
    shown.join()


if __name__ == "__main__":
    main()
