"""What a report is made from: the directories of runs, evaluations and explanations that its command names."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from neuro_ssl.errors import InputError
from neuro_ssl.points import FOLDER, read_points

RECORDS = ("run.yaml", "evaluation.yaml", "explanation.yaml")  # each kind of directory has its own


@dataclass(frozen=True)
class Sources:
    """Directories, each once, in the order of their names.

    Attributes:
        runs: with a `run.yaml`.
        evaluations: with an `evaluation.yaml`: the `results-…` of an evaluation's folder.
        explanations: with an `explanation.yaml`.
        named: of the runs those that were named themselves, or by a pattern or sweep, not by a folder that holds them.
        sweeps: folders with the records of points: those that were named; without names, all.
    """

    runs: list[Path]
    evaluations: list[Path]
    explanations: list[Path]
    named: frozenset[Path] = frozenset()
    sweeps: Sequence[Path] = ()


def find(runs_dir: Path, names: Sequence[str] | None = None) -> Sources:
    """All that lies below `runs_dir`, or below the named folders.

    Args:
        runs_dir: holds runs, evaluations and explanations, at any depth.
        names: paths, relative to `runs_dir` or to the working directory, or patterns such as `finetune-*`: of a run, an
            evaluation or one of its results, an explanation, a sweep, or a folder of such.

    Raises:
        InputError: there is nothing, or one of the names is of nothing.
    """
    if names is None:
        folders, sweeps = [runs_dir], [file.parent for file in runs_dir.rglob(f".sweeps/*/{FOLDER}")]
        if not any(next(runs_dir.rglob(record), None) for record in RECORDS):
            raise InputError(f"{runs_dir}: no runs here; train first (python -m neuro_ssl.train) or set runs_dir")
    else:
        named = [folder for name in names for folder in _named(runs_dir, name)]
        sweeps = list(dict.fromkeys(folder for folder in named if (folder / FOLDER).is_dir()))
        folders = [run for folder in named for run in _runs_of_sweep(folder) or [folder]]
    found = [sorted({file.parent for folder in folders for file in folder.rglob(record)}) for record in RECORDS]
    runs_named = frozenset(folder for folder in folders if (folder / RECORDS[0]).is_file())
    return Sources(found[0], found[1], found[2], runs_named, sweeps)


def _named(runs_dir: Path, name: str) -> list[Path]:
    """The folders that a name stands for, one of a sweep as it is."""
    for place in (runs_dir, Path()):
        folders = [place / name] if Path(name).is_absolute() or (place / name).exists() else list(place.glob(name))
        if found := [folder for folder in sorted(folders) if _holds_any(folder)]:
            return found
    there = sorted({file.parent.relative_to(runs_dir).as_posix() for r in RECORDS for file in runs_dir.rglob(r)})
    like = get_close_matches(name, there, n=5, cutoff=0.4) or there[:5]
    known = f"of {len(there)} in {runs_dir}: {', '.join(like)}" if there else f"{runs_dir} has none"
    raise InputError(f"runs={name}: no run, evaluation, explanation or sweep of that name; {known}")


def _holds_any(folder: Path) -> bool:
    """Whether it is a sweep, or there is a record in it."""
    return (folder / FOLDER).is_dir() or any(next(folder.rglob(record), None) for record in RECORDS)


def _runs_of_sweep(folder: Path) -> list[Path]:
    return [point.run for point in read_points(folder) if point.run and point.run.exists()]
