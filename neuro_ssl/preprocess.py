"""`python -m neuro_ssl.preprocess`: a cohort's NIfTI images to the volume store that training reads."""

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from neuro_ssl.config import PreprocessConfig, check_components, choices, entry_point, overridden, plain
from neuro_ssl.errors import InputError

if TYPE_CHECKING:
    from neuro_ssl.data.store import VolumeStore
    from neuro_ssl.data.store_writer import StoreWriter
    from neuro_ssl.preprocessing.pipeline import Preprocessing


@entry_point("preprocess")
def main(cfg: PreprocessConfig) -> None:
    """Find the scans, split their subjects, make the volumes that are missing, describe them."""
    check_components(cfg, {"dataset": ()})
    if cfg.n_jobs < 1:
        raise InputError(f"n_jobs must be at least 1, got {cfg.n_jobs}")

    from hydra.utils import instantiate

    from neuro_ssl.data.manifest import add_scan_ids
    from neuro_ssl.data.splits import split_scans, write_splits
    from neuro_ssl.data.store_writer import StoreWriter
    from neuro_ssl.grid import Grid
    from neuro_ssl.preprocessing.pipeline import Preprocessing, choose_brain_extraction
    from neuro_ssl.preprocessing.registration import registration_named

    config = plain(cfg)
    grid = Grid.named(cfg.grid)
    dataset = instantiate(config["dataset"], _convert_="all")
    scans = add_scan_ids(dataset.scans())
    splits_file = dataset.store_dir / "splits.csv"
    scans, kept = split_scans(scans, splits_file, config["splits"], config["stratify"], cfg.seed)

    images = scans["image_path"].tolist()
    masks = [mask if isinstance(mask, str) else None for mask in scans.get("mask_path", [None] * len(scans))]
    method = choose_brain_extraction(cfg.brain_extraction, dict(zip(images, masks, strict=True)))
    preprocessing = Preprocessing(grid, method, registration_named(cfg.registration), cfg.bias_correction)
    writer = StoreWriter(dataset.store_dir, grid, preprocessing.settings)
    jobs = {
        scan_id: [image, mask] if method == "mask" and mask else [image]
        for scan_id, image, mask in zip(scans["scan_id"], images, masks, strict=True)
    }
    missing = {scan_id: sources for scan_id, sources in jobs.items() if not writer.has(scan_id, sources)}
    if len(missing) == len(jobs):
        refuse_other_cohort(writer.path, images)
    make_volumes(preprocessing, writer, missing, cfg.n_jobs)
    store = writer.finish(scans, dataset.name, dataset.simulated)
    write_splits(scans, splits_file)

    print(f"{len(missing)} volumes made, {len(jobs) - len(missing)} were there already (brain masks: {method})")
    if kept:
        print(f"{kept} subjects keep the split that they have in {splits_file}; delete it to split anew")
    print(summary(store))
    print(f"next: {next_command(cfg, dataset.name)}")


def make_volumes(
    preprocessing: "Preprocessing", writer: "StoreWriter", missing: dict[str, list[str]], n_jobs: int
) -> None:
    """Preprocess the missing scans in parallel; what is finished is kept, whatever happens to the next one."""
    from joblib import Parallel, delayed

    from neuro_ssl.console import progress_bar

    calls = [delayed(make_volume)(preprocessing, writer, scan_id, sources) for scan_id, sources in missing.items()]
    with progress_bar(total=len(calls), desc="preprocess", unit="scan", disable=not calls) as bar:
        try:
            for _ in Parallel(n_jobs, return_as="generator_unordered")(calls):
                bar.update()
        except InputError as error:
            raise InputError(f"{error}\n{bar.n} volumes are finished; the same command goes on from there") from error


def make_volume(preprocessing: "Preprocessing", writer: "StoreWriter", scan_id: str, sources: list[str]) -> None:
    """Preprocess one scan, in a process of its own."""
    brain = preprocessing(*sources)
    writer.write(scan_id, brain.volume, brain.measurements, brain.to_scan, sources)


def refuse_other_cohort(store: Path, images: list[str]) -> None:
    """Two cohorts of one name must not write into one store.

    Raises:
        InputError: a finished store holds scans, and none of them is among these images.
    """
    from neuro_ssl.data.manifest import read_manifest

    if (store / "manifest.parquet").is_file():
        held = read_manifest(store / "manifest.parquet")["image_path"]
        if not held.isin(images).any():
            raise InputError(
                f"{store} holds the scans of another cohort of this name, such as {held.iloc[0]}; "
                "give this one a name of its own by dataset.cohort=…, or delete that folder"
            )


def summary(store: "VolumeStore") -> str:
    """What the store holds, and where it is."""
    counts = store.summary
    megabytes = sum((store.path / volume).stat().st_size for volume in store.manifest["volume"]) / 1e6
    splits = ", ".join(
        f"{split} {counts['n_subjects'][split]}" for split in ("train", "val", "test") if split in counts["n_subjects"]
    )
    return (
        f"cohort {store.cohort}{' (simulated)' if store.simulated else ''}: {len(store.manifest)} scans of "
        f"{sum(counts['n_subjects'].values())} subjects ({splits})\n"
        f"store: {store.path}, {'×'.join(map(str, store.grid.shape))} voxels, {megabytes:.1f} MB"
    )


def next_command(cfg: PreprocessConfig, cohort: str) -> str:
    """The command that pretrains on this store."""
    words = ["python", "-m", "neuro_ssl.train", "+experiment=simclr_pretrain"]
    if overridden("dataset"):
        words.append(f"dataset={choices()['dataset']}")
    if cfg.dataset.cohort is None or overridden("dataset.cohort"):
        words.append(f"dataset.cohort={_quoted(cohort)}")
    words += [f"{key}={_quoted(getattr(cfg, key))}" for key in ("data_dir", "grid") if overridden(key)]
    return shlex.join(words)


def _quoted(value: str) -> str:
    """A value as Hydra's command line reads it, whatever its characters are."""
    return value if re.fullmatch(r"[A-Za-z0-9_./-]+", value) else '"' + value.replace('"', '\\"') + '"'


if __name__ == "__main__":
    main()
