"""One explanation: a map of every scan, their mean, a picture, and a record of how they were made.

    explanations/<run or weights>/<method>-1a2b3c4d/
        explanation.yaml                    what is explained, by which method, of whom; written last
        mean.nii.gz                         mean of the scans' attributions, in MNI space
        mean_absolute.nii.gz                of their absolute values: where scans differ in sign, the other is near 0
        background.nii.gz                   mean of the scans, white matter near 1
        figure.png, figure.svg              the mean as slices
        scans/<scan_id>_attribution.nii.gz  of one scan, in MNI space
        scans/<scan_id>_attribution.json    its output, and what its attributions add up to
        scans/<scan_id>_native.nii.gz       the same map on the voxels of the scan as acquired

The digits stand for weights, scans, method and settings, so that the same command finds it again, and goes on with it
if it was interrupted. `making` fills the folder.
"""

import functools
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import yaml
from torch import nn

from neuro_ssl.data.splits import persons
from neuro_ssl.data.volumes import Volumes
from neuro_ssl.embedding import weights_hash
from neuro_ssl.errors import InputError
from neuro_ssl.explaining.method import Method
from neuro_ssl.explaining.models import ExplainedModel
from neuro_ssl.explaining.output import Explained

VERSION = 1  # raise it whenever the same settings give other maps
RECORD = "explanation.yaml"
TITLES = {
    "gradient_x_input": "Gradient × input",
    "integrated_gradients": "Integrated gradients",
    "occlusion": "Occlusion",
    "grad_cam": "Grad-CAM",
}

Baseline = Literal["background", "mean_scan"]


@dataclass(frozen=True, eq=False)
class Explanation:
    """What is explained, how, and where that is kept.

    Attributes:
        folder: of all explanations.
        model: whose output.
        volumes: of the cohort.
        scans: rows of its manifest.
        split: that they are of, for the record.
        name: of the method.
        method: with its settings.
        baseline: what stands for absence: `background`; `mean_scan`, the mean of these scans; or None, which is
            background for a trained task, and for an encoder without a head the mean scan: there the question is how a
            scan differs from the others, and against an empty volume all brains are alike.

    Raises:
        InputError: another baseline.
    """

    folder: Path
    model: ExplainedModel
    volumes: Volumes
    scans: pd.DataFrame
    split: str
    name: str
    method: Method
    baseline: Baseline | None = None

    def __post_init__(self) -> None:
        if self.baseline not in (None, *get_args(Baseline)):
            raise InputError(f"baseline must be null, {' or '.join(get_args(Baseline))}, got {self.baseline!r}")

    @property
    def absence(self) -> Baseline:
        """The baseline that is used."""
        return self.baseline or ("background" if self.model.target else "mean_scan")

    @property
    def settings(self) -> dict[str, Any]:
        """Of the method."""
        settings = asdict(self.method)  # type: ignore[call-overload]
        return {**settings, "baseline": self.absence} if self.method.uses_baseline else settings

    @functools.cached_property
    def path(self) -> Path:
        """The folder of this explanation."""
        content = {
            "version": VERSION,
            "weights": [
                self.model.weights.name,
                weights_hash(self.model.weights),
                self.model.head_hash,
                self.model.output,
            ],
            "volumes": self.volumes.identity,
            "scans": sorted(self.scans["scan_id"]),
            "settings": self.settings,
        }
        digits = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
        return self.folder / self.model.weights.name / f"{self.name}-{digits}"

    @property
    def record(self) -> dict[str, Any]:
        """What `explanation.yaml` says; empty before the explanation is whole."""
        return read_record(self.path / RECORD) if (self.path / RECORD).is_file() else {}

    def is_finished(self, *, native: bool, sanity_check: bool) -> bool:
        """Whether all that is wanted is there."""
        record = self.record
        all_native = bool(record) and record["native"] == len(self.scans)
        return bool(record) and (all_native or not native) and (bool(record["sanity_check"]) or not sanity_check)

    def check(self) -> None:
        """Refuse, before anything is computed, what cannot be.

        Raises:
            InputError: scans prepared in another way than the weights expect, too small ones, or a method that cannot
                explain this encoder.
        """
        self.model.weights.check_data(self.volumes.summary)
        self.model.check_grid(self.volumes.grid.shape)
        model, grid = Explained(self.model.weights.build_encoder(), nn.Identity()), self.volumes.grid
        self.method.check(model, grid.shape, grid.spacing_mm)

    @property
    def title(self) -> str:
        """Of the picture."""
        n_scans, n_subjects = len(self.scans), persons(self.scans).nunique()
        simulated = "SIMULATED " if self.volumes.simulated else ""
        split = "" if self.split == "all" else f"{self.split} "
        scans = f"{n_scans} {simulated}{split}scan{'s'[: n_scans > 1]} of {n_subjects} subject{'s'[: n_subjects > 1]}"
        of_whom = f"mean of {scans}, cohort {self.volumes.cohort}"
        return f"{TITLES[self.name]}: {self.model.output}\n{self.model.weights.name}; {of_whom}"

    @property
    def summary(self) -> str:
        """What a finished one says of itself, in a few lines."""
        record = self.record
        lines = [f"  mean.nii.gz, figure.png; {record['n_scans']} scans, {record['native']} in their own space too"]
        if (error := record["completeness_error"]) is not None:
            lines.append(f"  attributions add up to what they explain but for {error:.1%}")
        if record["outside_brain"] > 0.005:
            lines.append(f"  {record['outside_brain']:.0%} of all attribution lies outside the brain")
        if check := record["sanity_check"]:
            parts = ", ".join(
                f"{where} {'none (empty maps)' if np.isnan(value) else f'{value:.2f}'}"
                for where, value in check["likeness"].items()
            )
            lines.append(f"  likeness of the maps once it is untrained from the output to …: {parts}")
        return "\n".join(lines)

    @property
    def label(self) -> str:
        """Of the picture's colours."""
        if not self.method.signed:
            return "speaks for a higher output (no unit)"
        return f"← lowers it    {self.model.unit} per {self.method.unit(self.volumes.grid.spacing_mm)}    raises it →"


def read_record(file: Path) -> dict[str, Any]:
    """What an `explanation.yaml` says.

    Raises:
        InputError: damaged.
    """
    try:
        record = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"{file} is damaged ({error}); delete it and give the command again") from error
    if not isinstance(record, dict) or not {"native", "sanity_check", "method"} <= set(record):
        raise InputError(f"{file} is no record of an explanation; delete it and give the command again")
    return record
