"""Writes the simulated cohort as a BIDS dataset (bids-specification.readthedocs.io, 1.10) with brain masks beside it.

The settings are kept in `simulation.json`: the same settings again make only what is missing, other settings are
refused. Files appear complete or not at all, so that an interrupted run continues.
"""

import multiprocessing
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import connection
from pathlib import Path
from typing import Any

import nibabel as nib
from threadpoolctl import threadpool_limits

from neuro_ssl.console import progress_bar
from neuro_ssl.files import appearing
from neuro_ssl.simulation.atlas import Atlas, load_atlas
from neuro_ssl.simulation.bids import root_texts, scan_names, subject_texts
from neuro_ssl.simulation.cohort import Subject, plan_cohort
from neuro_ssl.simulation.effects import TEACHING, Effects
from neuro_ssl.simulation.image import simulate_scan
from neuro_ssl.simulation.settings import check, claim, write_text

SIMULATION_VERSION = 1  # raised whenever the same settings give other images

_Scan = tuple[Subject, int]  # a subject and one of its sessions, from 0


def simulate_cohort(
    output: str | Path,
    n_subjects: int = 150,
    seed: int = 0,
    spacing_mm: float = 2.0,
    n_sites: int = 3,
    scanners_per_site: int = 1,
    field_strengths: Sequence[float] = (1.5,),
    follow_up_fraction: float = 0.2,
    n_follow_ups: int = 1,
    retest_fraction: float = 0.0,
    alzheimers_fraction: float = 0.15,
    stroke_fraction: float = 0.15,
    age_range: Sequence[float] = (20.0, 90.0),
    effects: Effects = TEACHING,
    n_jobs: int = 2,
    overwrite: bool = False,
) -> None:
    """Write a simulated cohort of T1w scans as a BIDS dataset.

    A subject depends on the seed and its number alone, as long as the other settings are the same: a larger cohort
    begins with the smaller one.

    Args:
        output: folder of the dataset.
        n_subjects: 1 to 9999.
        seed: of everything random.
        spacing_mm: isotropic voxel size of the images.
        n_sites: number of sites.
        scanners_per_site: each with its own contrast, bias field, noise, intensity scale and axis order.
        field_strengths: 1.5 and 3 (tesla), or one of them; scanners take them in turn.
        follow_up_fraction: share of subjects who come again, two to four years after the session before.
        n_follow_ups: how often they do.
        retest_fraction: share of subjects who come again within two weeks, their anatomy unchanged. Half of them lie in
            the same scanner; of the others, half in another scanner of the site and half in one of another site (all
            where there is no choice).
        alzheimers_fraction: share of subjects with Alzheimer's disease; all of them are 55 or older.
        stroke_fraction: share of subjects with a stroke.
        age_range: youngest and oldest age in years at the first session.
        effects: size of everything that is planted, and how real the images look; `RealisticEffects` is the other set.
        n_jobs: processes.
        overwrite: replace a simulated dataset of other settings. A folder written by anything else is never touched.

    Raises:
        InputError: an argument is out of its range, or `output` holds something else or cannot be written.
    """
    plan: dict[str, Any] = {
        "n_subjects": n_subjects,
        "seed": seed,
        "n_sites": n_sites,
        "scanners_per_site": scanners_per_site,
        "field_strengths": tuple(field_strengths),
        "follow_up_fraction": follow_up_fraction,
        "n_follow_ups": n_follow_ups,
        "retest_fraction": retest_fraction,
        "alzheimers_fraction": alzheimers_fraction,
        "stroke_fraction": stroke_fraction,
        "age_range": tuple(age_range),
    }
    check(plan | {"spacing_mm": spacing_mm, "n_jobs": n_jobs})
    output = Path(output)
    subjects = plan_cohort(**plan)
    recorded = {"simulation_version": SIMULATION_VERSION, "spacing_mm": spacing_mm, **plan, "effects": asdict(effects)}
    claim(output, recorded, overwrite)
    scans = [(subject, session) for subject in subjects for session in range(len(subject.sessions))]
    texts = root_texts(subjects)
    for subject in subjects:
        texts |= subject_texts(subject)
    missing_texts = [name for name in texts if not (output / name).is_file()]
    missing_scans = [scan for scan in scans if not all((output / name).is_file() for name in scan_names(*scan))]
    for name in missing_texts:
        write_text(output / name, texts[name])
    if missing_scans:
        _write_scans(output, missing_scans, load_atlas(spacing_mm), effects, n_jobs)
    what = f"simulated cohort: {len(scans)} scans of {n_subjects} subjects in {output}"
    if missing_scans or missing_texts:
        made = "" if len(missing_scans) == len(scans) else f" ({len(missing_scans)} of them made now)"
        print(f"{what}{made}")
    else:
        print(f"{what}: complete already, nothing to do")


def _write_scans(output: Path, scans: Sequence[_Scan], atlas: Atlas, effects: Effects, n_jobs: int) -> None:
    n_jobs = min(n_jobs, len(scans))
    with progress_bar(total=len(scans), desc="simulating", unit="scan") as progress:
        if n_jobs == 1:
            for scan in scans:
                _write_scan(output, scan, atlas, effects)
                progress.update()
            return
        context = multiprocessing.get_context("spawn")  # forking a process with threads can hang
        with ProcessPoolExecutor(n_jobs, context, _start_worker, (output, atlas, effects)) as pool:
            try:
                for future in as_completed([pool.submit(_write_scan_in_worker, scan) for scan in scans]):
                    future.result()
                    progress.update()
            except BaseException:  # Ctrl-C too: finish the scans under way, not the whole queue
                pool.shutdown(cancel_futures=True)
                raise


_worker: tuple[Path, Atlas, Effects]  # sent to each process once rather than with every scan


def _start_worker(output: Path, atlas: Atlas, effects: Effects) -> None:
    global _worker
    _worker = output, atlas, effects
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent sends no word: without this, its workers would wait for scans for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _write_scan_in_worker(scan: _Scan) -> None:
    output, atlas, effects = _worker
    _write_scan(output, scan, atlas, effects)


def _write_scan(output: Path, scan: _Scan, atlas: Atlas, effects: Effects) -> None:
    with threadpool_limits(1, "blas"):  # products on several threads round otherwise: files would depend on the machine
        images = simulate_scan(atlas, *scan, effects)
    for name, image in zip(scan_names(*scan), images, strict=True):
        with appearing(output / name) as temporary:
            nib.save(image, temporary)
