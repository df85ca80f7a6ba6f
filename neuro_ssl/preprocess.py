"""`python -m neuro_ssl.preprocess`: a cohort's NIfTI images to the volume store that training reads."""

import re
import shlex
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from neuro_ssl.commands import entry_point
from neuro_ssl.config import check_components, choices, overridden, plain
from neuro_ssl.errors import InputError
from neuro_ssl.schemas import PreprocessConfig

if TYPE_CHECKING:
    from neuro_ssl.data.store_writer import StoreWriter
    from neuro_ssl.preprocessing.pipeline import Preprocessing

SHOWN = 3  # failed scans that the message names


@entry_point("preprocess")
def main(cfg: PreprocessConfig) -> None:
    """Find the scans, split their subjects, make the volumes that are missing, describe them."""
    check_components(cfg, {"dataset": ()})
    check_values(cfg)

    from hydra.utils import instantiate

    from neuro_ssl.data.exclusions import read_exclusions
    from neuro_ssl.data.manifest import add_scan_ids
    from neuro_ssl.data.splits import split_scans, write_splits
    from neuro_ssl.data.store import read_failures
    from neuro_ssl.data.store_writer import StoreWriter
    from neuro_ssl.files import locked
    from neuro_ssl.grid import Grid
    from neuro_ssl.preprocessing.pipeline import Preprocessing, choose_brain_extraction
    from neuro_ssl.preprocessing.registration import registration_named
    from neuro_ssl.reporting.quality.store import check_quality

    config = plain(cfg)
    grid = Grid.named(cfg.grid)
    dataset = instantiate(config["dataset"], _convert_="all")
    scans = add_scan_ids(dataset.scans())
    splits_file = dataset.store_dir / "splits.csv"
    splitting = (splits_file, config["splits"], config["stratify"], cfg.seed)
    _, kept = split_scans(scans, *splitting)  # tells now what is wrong with it; the real one is at the end
    excluded = read_exclusions(dataset.store_dir)

    images = scans["image_path"].tolist()
    masks = [mask if isinstance(mask, str) else None for mask in scans.get("mask_path", [None] * len(scans))]
    method = choose_brain_extraction(cfg.brain_extraction, dict(zip(images, masks, strict=True)))
    preprocessing = Preprocessing(grid, method, registration_named(cfg.registration), cfg.bias_correction)
    writer = StoreWriter(dataset.store_dir, grid, preprocessing.settings)
    jobs = {
        scan_id: [image, mask] if method == "mask" and mask else [image]
        for scan_id, image, mask in zip(scans["scan_id"], images, masks, strict=True)
    }
    share = {scan_id: jobs[scan_id] for scan_id in sorted(jobs)[cfg.shard :: cfg.num_shards]}
    missing = writer.missing(share)
    if len(missing) == len(share):
        writer.refuse_other_cohort(images)
    with locked(dataset.store_dir):
        writer.note_failures(share, {})  # they are tried again
    writer.refuse_full_disk(len(missing) * cfg.num_shards)
    failures = make_volumes(preprocessing, writer, {scan_id: share[scan_id] for scan_id in missing}, cfg)

    # Every shard comes here; the one that finds nothing left to do, the last, describes the store.
    whose = f"shard {cfg.shard} of {cfg.num_shards}: " if cfg.num_shards > 1 else ""
    made = f"{whose}{len(missing) - len(failures)} volumes made, {len(share) - len(missing)} were there already"
    with locked(dataset.store_dir):
        writer.note_failures(share, failures)
        complete = writer.complete(jobs, done=share)
        if complete:
            scans, _ = split_scans(scans, *splitting)
            write_splits(scans, splits_file)
            store = writer.finish(scans, dataset.name, dataset.simulated)
            failures = dict(read_failures(writer.path)[["scan_id", "reason"]].to_numpy())
    print(f"{made} (brain masks: {method})")
    if complete:
        if kept:
            print(f"{kept} subjects keep the split that they have in {splits_file}; delete it to split anew")
        print(store)
        page = store.path / "quality.html"
        if missing or not page.exists():
            print(check_quality(store, cfg.n_jobs))
        print(f"look at them: {page}")
        print(f"next: {next_command(cfg, dataset.name)}")
    else:
        print(f"{whose}other shards are not done; the last one to finish writes the store {writer.path}")
    failed = [f"  {scan_id}: {reason}" for scan_id, reason in failures.items() if scan_id not in excluded]
    if failed:
        raise InputError(
            f"{whose}{len(failed)} of {len(jobs if complete else share)} scans could not be used"
            f"{', and the store goes without them' if complete else ''}; "
            f"put them right and run the same command again, or list them in {dataset.store_dir}/exclude.csv\n"
            + "\n".join([*failed[:SHOWN], *(["  …"] if len(failed) > SHOWN else [])])
            + f"\nall of them: {writer.path}/failures.csv"
        )


def check_values(cfg: PreprocessConfig) -> None:
    """Refuse values out of their range, before anything is read."""
    if cfg.n_jobs < 1:
        raise InputError(f"n_jobs must be at least 1, got {cfg.n_jobs}")
    if cfg.on_error not in ("continue", "stop"):
        raise InputError(f"on_error must be continue or stop, got {cfg.on_error!r}")
    if not 0 <= cfg.shard < cfg.num_shards:
        raise InputError(
            f"shard must be from 0 to num_shards - 1, got shard={cfg.shard} num_shards={cfg.num_shards}; "
            "four shards are started by -m shard=0,1,2,3 num_shards=4"
        )


def make_volumes(
    preprocessing: "Preprocessing", writer: "StoreWriter", missing: dict[str, list[str]], cfg: PreprocessConfig
) -> dict[str, str]:
    """Preprocess the missing scans in parallel; what is finished is kept, whatever happens to the next one.

    Returns:
        scan_id → reason, of the scans that cannot be used.
    """
    from joblib import Parallel, delayed, parallel_config

    from neuro_ssl.console import progress_bar

    failures: dict[str, str] = {}
    goes_on = "volumes are finished; the same command goes on from there"
    calls = [delayed(make_volume)(preprocessing, writer, scan_id, sources) for scan_id, sources in missing.items()]
    sharded = cfg.num_shards > 1
    with (
        progress_bar(
            total=len(calls),
            desc=f"shard {cfg.shard} of {cfg.num_shards}" if sharded else "preprocess",
            unit="scan",
            disable=not calls,
            beside_others=sharded,
        ) as bar,
        # loky by name, or joblib would give a shard that itself runs under joblib threads instead of processes.
        parallel_config("loky", n_jobs=max(1, min(cfg.n_jobs, len(calls))), inner_max_num_threads=1),
    ):
        try:
            for scan_id, problem in Parallel(return_as="generator_unordered", batch_size=1)(calls):
                if problem is not None:
                    if cfg.on_error == "stop":
                        raise InputError(problem)
                    failures[scan_id] = problem
                bar.update()
        except InputError as error:
            raise InputError(f"{error}\n{bar.n - len(failures)} {goes_on}") from error
        except BrokenProcessPool as error:
            raise InputError(
                "a preprocessing process was killed, most likely because the memory is full: use fewer of them, "
                f"n_jobs={max(1, cfg.n_jobs // 2)}\n{bar.n - len(failures)} {goes_on}"
            ) from error
    return failures


def make_volume(
    preprocessing: "Preprocessing", writer: "StoreWriter", scan_id: str, sources: list[str]
) -> tuple[str, str | None]:
    """Preprocess one scan, in a process of its own: its name, and what is wrong with it, if anything is."""
    from neuro_ssl.preprocessing.threads import one_thread

    with one_thread():
        try:
            brain = preprocessing(*sources)
        except InputError as error:
            return scan_id, str(error)
        writer.write(scan_id, brain.volume, brain.measurements, brain.to_scan, sources)
    return scan_id, None


def next_command(cfg: PreprocessConfig, cohort: str) -> str:
    """The command that pretrains on this store."""
    words = ["python", "-m", "neuro_ssl.train", "+experiment=simclr_pretrain"]
    if overridden("dataset"):
        choice = choices()["dataset"]  # dataset=registered reads the images, not the store
        words.append(f"dataset={'csv' if choice == 'registered' else choice}")
    if cfg.dataset.cohort is None or overridden("dataset.cohort"):
        words.append(f"dataset.cohort={_quoted(cohort)}")
    words += [f"{key}={_quoted(getattr(cfg, key))}" for key in ("data_dir", "grid") if overridden(key)]
    return shlex.join(words)


def _quoted(value: str) -> str:
    """A value as Hydra's command line reads it, whatever its characters are."""
    return value if re.fullmatch(r"[A-Za-z0-9_./-]+", value) else '"' + value.replace('"', '\\"') + '"'


if __name__ == "__main__":
    main()
