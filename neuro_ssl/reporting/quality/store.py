"""Quality control of a volume store: measured, judged, written as `quality.csv` and `quality.html` into its folder."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pandas as pd

from neuro_ssl.console import progress_bar
from neuro_ssl.data.exclusions import add_exclusions, read_exclusions
from neuro_ssl.data.manifest import read_manifest
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.data.tabular import read_table
from neuro_ssl.files import appearing
from neuro_ssl.preprocessing.outliers import Flag, judge, not_judged
from neuro_ssl.preprocessing.quality import measure_volume

NAMED = 10  # flagged scans that the terminal shows


@dataclass(frozen=True)
class Quality:
    """What quality control found.

    Attributes:
        store: the store.
        table: one row a scan, flagged ones first, excluded ones last: `scan_id`, `subject_id`, `flags`, `excluded`
            (the reason in `exclude.csv`, or empty) and the measurements.
        flags: of each row.
        not_judged: what couldn't be checked, and why.
    """

    store: VolumeStore
    table: pd.DataFrame
    flags: list[list[Flag]]
    not_judged: list[str]

    @property
    def flagged(self) -> dict[str, str]:
        """scan_id → reasons, of flagged scans that aren't excluded."""
        rows = self.table[(self.table["flags"] != "") & (self.table["excluded"] == "")]
        return dict(zip(rows["scan_id"], rows["flags"], strict=True))

    @property
    def counts(self) -> dict[str, int]:
        """How many scans that aren't excluded each measurement flags."""
        kept = (self.table["excluded"] == "").to_numpy()
        names = (
            name
            for flags, keep in zip(self.flags, kept, strict=True)
            if keep
            for name in {f.measurement for f in flags}
        )
        return dict(Counter(names).most_common())

    def __str__(self) -> str:
        flagged, n_excluded = self.flagged, int((self.table["excluded"] != "").sum())
        excluded = f"; {n_excluded} more are excluded" if n_excluded else ""
        lines = [f"{len(flagged)} of {len(self.table) - n_excluded} scans are flagged{excluded}"]
        short = {row: "; ".join(flag.reason.partition(": ")[0] for flag in own) for row, own in enumerate(self.flags)}
        named = [row for row, scan in enumerate(self.table["scan_id"]) if scan in flagged][:NAMED]
        lines += [f"  {self.table['scan_id'][row]}: {short[row]}" for row in named]
        if len(flagged) > NAMED:
            lines.append(f"  … and {len(flagged) - NAMED} more")
        lines += [f"not checked: {what}" for what in self.not_judged]
        return "\n".join(lines)


def check_quality(store: VolumeStore, n_jobs: int = 1) -> Quality:
    """Measure and judge all scans of a store, the excluded ones too, and write table and page into its folder.

    Args:
        store: an open store.
        n_jobs: processes.

    Raises:
        InputError: a volume or a table of the store is damaged, or the results cannot be written.
    """
    from neuro_ssl.reporting.quality.page import render

    manifest = read_manifest(store.path / "manifest.parquet").sort_values("scan_id", ignore_index=True)
    scans = manifest[["scan_id", "subject_id", "image_hash"]]
    scans = scans.merge(read_table(store.path / "measurements.parquet"), on="scan_id", how="left", validate="1:1")
    found = _measure(store, manifest["volume"].tolist(), n_jobs)
    table = pd.concat([scans, pd.DataFrame([measurements for measurements, _ in found])], axis=1)
    exclusions = read_exclusions(store.path.parent)
    excluded = table["scan_id"].isin(list(exclusions)).to_numpy()

    judged, flags = judge(table, np.stack([fingerprint for _, fingerprint in found]), excluded)
    judged.insert(2, "flags", ["; ".join(flag.reason for flag in own) for own in flags])
    judged.insert(
        3,
        "excluded",
        [
            exclusions.get(scan, "") or "no reason given" if out else ""
            for scan, out in zip(judged["scan_id"], excluded, strict=True)
        ],
    )
    order = sorted(range(len(judged)), key=lambda i: (excluded[i], -len(flags[i]), judged["scan_id"][i]))
    quality = Quality(store, judged.iloc[order].reset_index(drop=True), [flags[i] for i in order], not_judged(judged))
    with appearing(store.path / "quality.csv") as csv, appearing(store.path / "quality.html") as html:
        quality.table.to_csv(csv, index=False)
        html.write_text(render(quality, manifest, datetime.now().astimezone(), n_jobs), encoding="utf-8")
    return quality


def exclude_flagged(quality: Quality) -> int:
    """Leave the flagged scans out of everything that reads the store; how many that are new."""
    reasons = {scan: f"quality control: {reason}" for scan, reason in quality.flagged.items()}
    return add_exclusions(quality.store.path.parent, reasons) if reasons else 0


def _measure(
    store: VolumeStore, volumes: Sequence[str], n_jobs: int
) -> list[tuple[dict[str, float], npt.NDArray[np.float16]]]:
    from joblib import Parallel, delayed

    def measure(volume: str) -> tuple[dict[str, float], npt.NDArray[np.float16]]:
        return measure_volume(store.read(volume), store.grid)

    calls = (delayed(measure)(volume) for volume in volumes)
    with progress_bar(total=len(volumes), desc="quality", unit="scan", delay=3) as bar:
        found = []
        for one in Parallel(n_jobs, return_as="generator")(calls):
            found.append(one)
            bar.update()
    return found
