"""The state that Ray Tune saves of a search, and what of it a kill may have cut off.

A session, which a start or a restart of the search begins, has four files with its time in their names, written one
after the other, and again in place as the search goes on. A kill in between leaves a session without some of them, or
with the last one cut off; Tune reads the newest of each, and would go on with trials its searcher knows nothing of.
"""

from __future__ import annotations

from pathlib import Path

_ENDS = {
    "experiment_state-{}.json": b"}",
    "searcher-state-{}.pkl": b".",
    "search_gen_state-{}.json": b".",  # a pickle, whatever its name says
    "callback-states-{}.pkl": b".",
}
"""The files of a session in the order in which Tune writes them, and how each ends."""


def drop_cut_off(folder: Path) -> bool:
    """Remove the sessions in Tune's folder that were not saved to their end; returns whether one is left."""
    prefix, _, suffix = next(iter(_ENDS)).partition("{}")
    sessions = [file.name.removeprefix(prefix).removesuffix(suffix) for file in folder.glob(f"{prefix}*{suffix}")]
    whole = [session for session in sessions if _is_whole(folder, session)]
    for session in set(sessions).difference(whole):
        for pattern in _ENDS:
            (folder / pattern.format(session)).unlink(missing_ok=True)
    return bool(whole)


def _is_whole(folder: Path, session: str) -> bool:
    files = {folder / pattern.format(session): end for pattern, end in _ENDS.items()}
    return all(file.is_file() and file.read_bytes().endswith(end) for file, end in files.items())
