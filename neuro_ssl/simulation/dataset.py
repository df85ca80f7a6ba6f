"""Writes the simulated cohort as a BIDS dataset (bids-specification.readthedocs.io, 1.10) with brain masks beside it.

The settings are kept in `simulation.json`: the same settings again make only what is missing, other settings are
refused. Files appear complete or not at all, so that an interrupted run continues.
"""

import json
import multiprocessing
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import nibabel as nib

from neuro_ssl.console import progress_bar
from neuro_ssl.errors import InputError
from neuro_ssl.files import appearing
from neuro_ssl.simulation.atlas import Atlas, load_atlas
from neuro_ssl.simulation.bids import MASKS, RECORD, as_json, root_texts, scan_names, subject_texts
from neuro_ssl.simulation.cohort import ALZHEIMERS_ONSET_YEARS, Subject, plan_cohort
from neuro_ssl.simulation.image import simulate_scan

SIMULATION_VERSION = 1  # raised whenever the same settings give other images

_Scan = tuple[Subject, int]  # a subject and one of its sessions, from 0


def simulate_cohort(
    output: str | Path,
    n_subjects: int = 150,
    seed: int = 0,
    spacing_mm: float = 2.0,
    n_sites: int = 3,
    follow_up_fraction: float = 0.2,
    alzheimers_fraction: float = 0.15,
    stroke_fraction: float = 0.15,
    age_range: Sequence[float] = (20.0, 90.0),
    n_jobs: int = 2,
    overwrite: bool = False,
) -> None:
    """Write a simulated cohort of T1w scans as a BIDS dataset.

    A subject depends on the seed and its number alone, as long as the other settings are the same: a larger cohort
    begins with the smaller one. 0.35 s of one core a scan at 2 mm.

    Args:
        output: folder of the dataset.
        n_subjects: 1 to 9999.
        seed: of everything random.
        spacing_mm: isotropic voxel size of the images.
        n_sites: each with its own contrast, bias field, noise, intensity scale and axis order.
        follow_up_fraction: share of subjects with a second session, two to four years after the first.
        alzheimers_fraction: share of subjects with Alzheimer's disease; all of them are 55 or older.
        stroke_fraction: share of subjects with a stroke.
        age_range: youngest and oldest age in years at the first session.
        n_jobs: processes.
        overwrite: replace a simulated dataset of other settings. A folder written by anything else is never touched.

    Raises:
        InputError: an argument is out of its range, or `output` holds something else or cannot be written.
    """
    settings = {
        "simulation_version": SIMULATION_VERSION,
        "n_subjects": n_subjects,
        "seed": seed,
        "spacing_mm": spacing_mm,
        "n_sites": n_sites,
        "follow_up_fraction": follow_up_fraction,
        "alzheimers_fraction": alzheimers_fraction,
        "stroke_fraction": stroke_fraction,
        "age_range": list(age_range),
    }
    _check(settings | {"n_jobs": n_jobs})
    output = Path(output)
    subjects = plan_cohort(
        n_subjects, seed, n_sites, follow_up_fraction, alzheimers_fraction, stroke_fraction, age_range
    )
    _claim(output, settings, overwrite)
    scans = [(subject, session) for subject in subjects for session in range(len(subject.session_ages_years))]
    texts = root_texts(subjects)
    for subject in subjects:
        texts |= subject_texts(subject)
    missing_texts = [name for name in texts if not (output / name).is_file()]
    missing_scans = [scan for scan in scans if not all((output / name).is_file() for name in scan_names(*scan))]
    for name in missing_texts:
        _write_text(output / name, texts[name])
    if missing_scans:
        _write_scans(output, missing_scans, load_atlas(spacing_mm), n_jobs)
    what = f"simulated cohort: {len(scans)} scans of {n_subjects} subjects in {output}"
    if missing_scans or missing_texts:
        made = "" if len(missing_scans) == len(scans) else f" ({len(missing_scans)} of them made now)"
        print(f"{what}{made}")
    else:
        print(f"{what}: complete already, nothing to do")


def _check(settings: dict[str, Any]) -> None:
    def require(holds: bool, name: str, range_: str) -> None:
        if not holds:
            raise InputError(f"{name} must be {range_}, got {settings[name]}")

    require(1 <= settings["n_subjects"] <= 9999, "n_subjects", "from 1 to 9999")
    require(settings["seed"] >= 0, "seed", "0 or more")
    require(1 <= settings["spacing_mm"] <= 8, "spacing_mm", "from 1 to 8")
    require(settings["n_sites"] >= 1, "n_sites", "1 or more")
    require(settings["n_jobs"] >= 1, "n_jobs", "1 or more")
    for name in ("follow_up_fraction", "alzheimers_fraction", "stroke_fraction"):
        require(0 <= settings[name] <= 1, name, "from 0 to 1")
    if settings["alzheimers_fraction"] + settings["stroke_fraction"] > 1:
        raise InputError("alzheimers_fraction and stroke_fraction add up to more than 1")
    ages = settings["age_range"]
    require(len(ages) == 2 and 18 <= ages[0] <= ages[1] <= 100, "age_range", "[youngest, oldest] from 18 to 100")
    if settings["alzheimers_fraction"] > 0 and ages[1] < ALZHEIMERS_ONSET_YEARS:
        raise InputError(
            f"age_range={ages} has nobody of {ALZHEIMERS_ONSET_YEARS:g} or older who could have Alzheimer's disease; "
            "set alzheimers_fraction=0"
        )


def _claim(output: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """Make `output` the folder of these settings, or refuse."""
    record = output / RECORD
    if record.is_file():
        try:
            recorded = dict(json.loads(record.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise InputError(f"{record}: damaged ({error}); delete {output}, or choose another output=") from error
        if recorded == settings:
            return
        if not overwrite:
            differing = [f"{key}={recorded.get(key)}" for key in settings if recorded.get(key) != settings[key]]
            raise InputError(
                f"{output} holds a simulated cohort of other settings ({', '.join(differing)}); "
                "replace it with overwrite=true or choose another folder with output="
            )
        _remove(output, recorded["n_subjects"])
    elif output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output} was not written by this command and is left alone; choose another output=")
    _write_text(record, as_json(settings))


def _remove(output: Path, n_subjects: int) -> None:
    """Delete what an earlier simulation of `n_subjects` wrote, and nothing else."""
    for root in (output, output / MASKS):
        for number in range(1, n_subjects + 1):
            if (root / f"sub-{number:04d}").exists():
                shutil.rmtree(root / f"sub-{number:04d}")
    for name in root_texts([]):
        (output / name).unlink(missing_ok=True)


def _write_scans(output: Path, scans: Sequence[_Scan], atlas: Atlas, n_jobs: int) -> None:
    n_jobs = min(n_jobs, len(scans))
    with progress_bar(total=len(scans), desc="simulating", unit="scan") as progress:
        if n_jobs == 1:
            for scan in scans:
                _write_scan(output, scan, atlas)
                progress.update()
            return
        context = multiprocessing.get_context("spawn")  # forking a process with threads can hang
        with ProcessPoolExecutor(n_jobs, context, _start_worker, (output, atlas)) as pool:
            try:
                for future in as_completed([pool.submit(_write_scan_in_worker, scan) for scan in scans]):
                    future.result()
                    progress.update()
            except BaseException:  # Ctrl-C too: finish the scans under way, not the whole queue
                pool.shutdown(cancel_futures=True)
                raise


_worker: tuple[Path, Atlas]  # sent to each process once rather than with every scan


def _start_worker(output: Path, atlas: Atlas) -> None:
    global _worker
    _worker = output, atlas


def _write_scan_in_worker(scan: _Scan) -> None:
    output, atlas = _worker
    _write_scan(output, scan, atlas)


def _write_scan(output: Path, scan: _Scan, atlas: Atlas) -> None:
    for name, image in zip(scan_names(*scan), simulate_scan(atlas, *scan), strict=True):
        with appearing(output / name) as temporary:
            nib.save(image, temporary)


def _write_text(path: Path, text: str) -> None:
    with appearing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
