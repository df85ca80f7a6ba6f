"""`python -m neuro_ssl.store`: what a volume store holds, and whether it is still what was written."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from neuro_ssl.errors import InputError

if TYPE_CHECKING:
    from neuro_ssl.data.store import VolumeStore

SHOWN = 10  # failed and excluded scans that `info` names


def command_line() -> argparse.ArgumentParser:
    """What the command takes."""
    parser = argparse.ArgumentParser(
        prog="python -m neuro_ssl.store", description="Look at volume stores, or verify them; nothing is changed."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="info | verify")
    info = commands.add_parser("info", help="cohort, grid, preprocessing, splits, sizes, exclusions, failures, hashes")
    verify = commands.add_parser(
        "verify",
        help="read every volume and compare its voxels with their checksum",
        description="Read every volume and compare its voxels with their checksum; exit status 1 names the bad ones.",
    )
    for command in (info, verify):
        command.add_argument("path", help="a store, or a cohort's folder of stores: data/stores/<cohort>")
    verify.add_argument("--n-jobs", type=int, default=os.cpu_count(), help="processes, by default one a core")
    return parser


def main() -> None:
    """Parse the command line and run one command."""
    arguments = command_line().parse_args()
    try:
        if arguments.command == "info":
            print("\n\n".join(describe(store) for store in open_stores(arguments.path)))
        else:
            if arguments.n_jobs < 1:
                raise InputError(f"--n-jobs must be at least 1, got {arguments.n_jobs}")
            verify_stores(arguments.path, arguments.n_jobs)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def open_stores(path: str, *, with_excluded: bool = False) -> list["VolumeStore"]:
    """The store at a path, or all stores of a cohort.

    Raises:
        InputError: there is none, or one is damaged.
    """
    from neuro_ssl.data.store import VolumeStore

    paths = (
        [Path(path)]
        if (Path(path) / "store.json").exists()
        else sorted(f.parent for f in Path(path).glob("*/store.json"))
    )
    if not paths:
        raise InputError(
            f"{path}: no finished volume store, nor a cohort's folder of them; python -m neuro_ssl.preprocess makes one"
        )
    return [VolumeStore.open(store, with_excluded=with_excluded) for store in paths]


def describe(store: "VolumeStore") -> str:
    """What a store holds, for people."""
    from neuro_ssl.data.store import read_failures

    summary = store.summary
    failures = read_failures(store.path)
    listed = {
        "left out by exclude.csv": dict(store.excluded),
        "failed, in failures.csv": dict(zip(failures["scan_id"], failures["reason"], strict=True)),
    }
    lines = [
        str(store),
        f"grid: {store.grid.name}, {store.grid.spacing_mm:g} mm",
        "preprocessing: " + ", ".join(f"{key} {value}" for key, value in summary["preprocessing"].items()),
        "scans: " + ", ".join(f"{split} {n}" for split, n in sorted(summary["n_scans"].items())),
        "hashes: "
        + ", ".join(f"{key.removesuffix('_hash')} {summary[key]}" for key in summary if key.endswith("_hash")),
    ]
    for title, scans in listed.items():
        lines.append(f"{title}: {len(scans)}")
        lines += [f"  {scan_id}: {reason}" for scan_id, reason in list(scans.items())[:SHOWN]]
        lines += ["  …"] if len(scans) > SHOWN else []
    return "\n".join(lines)


def verify_stores(path: str, n_jobs: int) -> None:
    """Read every volume, the excluded ones too.

    Raises:
        InputError: some are bad; each is named on stdout.
    """
    from neuro_ssl.data.checks import verify_volumes

    n_bad = 0
    for store in open_stores(path, with_excluded=True):
        problems = verify_volumes(store, n_jobs)
        for volume, problem in problems.items():
            print(f"{store.path / volume}: {problem}")
        print(f"{store.path}: {len(store.manifest) - len(problems)} of {len(store.manifest)} volumes are as written")
        n_bad += len(problems)
    if n_bad:
        raise InputError(f"{n_bad} volumes are bad; delete these files and run the preprocess command again")


if __name__ == "__main__":
    main()
