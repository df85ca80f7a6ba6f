"""Computing an explanation, scan by scan; what is there already is kept."""

import json
import warnings
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml
from torch import Tensor

from neuro_ssl.checkpoint import Weights
from neuro_ssl.console import progress_bar
from neuro_ssl.data.splits import persons
from neuro_ssl.environment import command_line, environment
from neuro_ssl.errors import InputError
from neuro_ssl.explaining import figure
from neuro_ssl.explaining.explanation import RECORD, Explanation
from neuro_ssl.explaining.images import read_mni, to_scan_of, write_mni, write_native
from neuro_ssl.explaining.output import Explained, background
from neuro_ssl.explaining.sanity import SUSPICIOUS, likeness_to_untrained
from neuro_ssl.files import appearing, held
from neuro_ssl.views.intensity import normalise

INCOMPLETE = 0.05  # share of the outputs' differences that attributions may miss before it is warned of
SANITY_SCANS = 2  # whose maps are made again, once for every stage of the encoder

Array = npt.NDArray[np.float32]


def chosen_device(name: str) -> torch.device:
    """`cpu`, `cuda`, or with `auto` a GPU if there is one.

    Raises:
        InputError: another word, or no GPU.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"device must be auto, cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device=cuda: torch finds no GPU here; device=cpu computes without one")
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


class Maker:
    """Makes one explanation.

    Args:
        explanation: which.
        device: to compute on.
        batch_size: volumes that the device holds at once.

    Raises:
        InputError: no batch size.
    """

    def __init__(self, explanation: Explanation, device: torch.device, batch_size: int = 8) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}")
        self.explanation, self.device, self.batch_size = explanation, device, batch_size
        self.path, self.grid, self.volumes = explanation.path, explanation.volumes.grid, explanation.volumes

    def make(self, *, native: bool, sanity_check: bool) -> dict[str, Any]:
        """Compute what isn't there yet.

        Args:
            native: write each map in its scan's own space as well.
            sanity_check: see `sanity`.

        Returns:
            The record.

        Raises:
            InputError: another process makes the same, a scan cannot be read, or something not be written.

        Warns:
            UserWarning: images as acquired are gone; integrated gradients don't add up; maps are empty, or hardly
                depend on what was learnt.
        """
        explanation = self.explanation
        with held(self.path, work="makes this explanation", elsewhere="choose another runs_dir"):
            before = explanation.record
            mean_scan, mean_input, features = self._look()
            model = explanation.model.build(features).to(self.device)
            self._explain_scans(model, mean_input)
            n_native = self._write_native() if native else before.get("native", 0)
            mean, mean_absolute = self._means()
            if not mean_absolute.any():
                warnings.warn(
                    f"{self.path}: the maps are 0 everywhere: nothing that {explanation.name} looks at "
                    "speaks for a higher output; take another method, or of grad_cam another layer",
                    stacklevel=2,
                )
            for name, volume, text in (
                ("mean", mean, self._text),
                ("mean_absolute", mean_absolute, self._text),
                ("background", mean_scan, "mean of the scans, white matter near 1"),
            ):
                write_mni(volume, self.grid, self.path / f"{name}.nii.gz", text)
            outside = float(mean_absolute[mean_scan == 0].sum() / max(mean_absolute.sum(), 1e-30))
            texts = {"title": explanation.title, "label": explanation.label}
            texts["note"] = f"{outside:.0%} of all attribution lies outside the brain." if outside > 0.005 else ""
            drawn = figure.draw(mean, mean_scan, self.grid, **texts, signed=explanation.method.signed)
            figure.write(drawn, self.path)
            likeness = self._check_sanity(model, mean_input) if sanity_check else before.get("sanity_check")
            record = {**self._record(n_native, likeness), "outside_brain": round(outside, 4), **self._made_by()}
            with appearing(self.path / RECORD) as file:
                file.write_text(yaml.safe_dump(record, sort_keys=False, allow_unicode=True), encoding="utf-8")
        return record

    def _look(self) -> tuple[Array, Tensor, Tensor | None]:
        """In one pass over the scans their mean, the mean of the inputs, and for an encoder without a head features."""
        explained = self.explanation.model
        encoder = None if explained.target else explained.weights.build_encoder().eval().to(self.device)
        total: npt.NDArray[np.float64] = np.zeros(self.grid.shape)
        total_input, features = torch.zeros(1, 1, *self.grid.shape, device=self.device), []
        for name in self.explanation.scans["volume"]:
            volume = self.volumes.read(name)
            inputs = self._input(volume)
            total += volume
            total_input += inputs
            if encoder is not None:
                with torch.inference_mode():
                    features.append(encoder(inputs).float().cpu())
        n = len(self.explanation.scans)
        return (total / n).astype(np.float32), total_input / n, torch.cat(features) if features else None

    def _input(self, volume: npt.NDArray[Any]) -> Tensor:
        """A volume as the encoder gets it in inference, (1, 1, z, y, x)."""
        tensor = torch.from_numpy(np.asarray(volume))[None, None].to(self.device)
        return normalise(tensor, self.explanation.model.weights.intensity)

    def _attribute(self, model: Explained, inputs: Tensor, mean_input: Tensor) -> tuple[Tensor, Tensor]:
        """Attributions and the baseline, (scans, 1, z, y, x) both."""
        if self.explanation.absence == "mean_scan":
            baseline = mean_input.expand_as(inputs)
        else:
            baseline = background(inputs, model.intensity)
        size = {"spacing_mm": self.grid.spacing_mm, "batch_size": self.batch_size}
        return self.explanation.method(model, inputs, baseline, **size), baseline  # type: ignore[arg-type]

    def _explain_scans(self, model: Explained, mean_input: Tensor) -> None:
        todo = [scan for scan in self._scans if not self._is_explained(scan["scan_id"])]
        for scan in progress_bar(iterable=todo, desc=self.explanation.name, unit="scan", delay=5):
            scan_id, file = scan["scan_id"], self._file(scan["scan_id"])
            inputs = self._input(self.volumes.read(scan["volume"]))
            maps, baseline = self._attribute(model, inputs, mean_input)
            with torch.no_grad():
                output, absent = (float(model(x)) for x in (inputs, baseline))
            if not np.isfinite(output) or not bool(maps.isfinite().all()):
                raise InputError(
                    f"weights={self.explanation.model.weights.path}: output {output:g} for {scan_id}, and "
                    "attributions that are no numbers; the training diverged, or the scan is damaged"
                )
            numbers = {"output": output, "baseline_output": absent, "sum": float(maps.double().sum())}
            with appearing(self._numbers(scan_id)) as sidecar:
                sidecar.write_text(json.dumps(numbers), encoding="utf-8")
            write_mni(maps[0, 0].cpu().numpy(), self.grid, file, self._text)

    def _write_native(self) -> int:
        """How many maps are there in their scan's own space."""
        gone = []
        for scan in self._scans:
            file = self.path / "scans" / f"{scan['scan_id']}_native.nii.gz"
            if file.is_file():
                continue
            image = Path(scan["image_path"])
            if not image.is_file():
                gone.append(image)
                continue
            to_scan = to_scan_of(self.volumes, scan["volume"])
            write_native(read_mni(self._file(scan["scan_id"])), self.grid, to_scan, image, file, self._text)
        n = len(self.explanation.scans)
        if gone:
            warnings.warn(
                f"{len(gone)} of {n} images as acquired are gone, first {gone[0]}: their maps are in MNI space alone; "
                "bring them back and give the command again, or set native=false",
                stacklevel=2,
            )
        return n - len(gone)

    def _means(self) -> tuple[Array, Array]:
        """Of the scans' attributions, and of their absolute values."""
        total, total_absolute = (np.zeros(self.grid.shape) for _ in range(2))
        for scan_id in self.explanation.scans["scan_id"]:
            one = read_mni(self._file(scan_id))
            total += one
            total_absolute += np.abs(one)
        n = len(self.explanation.scans)
        return (total / n).astype(np.float32), (total_absolute / n).astype(np.float32)

    def _check_sanity(self, model: Explained, mean_input: Tensor) -> dict[str, Any]:
        weights = self.explanation.model.weights
        volumes = [self.volumes.read(name) for name in self.explanation.scans["volume"][:SANITY_SCANS]]
        found = likeness_to_untrained(
            model,
            Weights.untrained(weights.encoder, 0, weights).build_encoder().eval().to(self.device),
            torch.cat([self._input(volume) for volume in volumes]),
            torch.from_numpy(np.stack(volumes)[:, None] > 0),
            lambda changed, inputs: self._attribute(changed, inputs, mean_input)[0],
        )
        if found["input"] > SUSPICIOUS:
            warnings.warn(
                f"{self.path}: maps are like those of an untrained encoder (rank correlation {found['input']:.2f}), so "
                "that they say little about what was learnt; compare another method",
                stacklevel=2,
            )
        return {
            "what": "rank correlation of absolute attributions in the brain with the maps of the same encoder, "
            "untrained from there to the output (Adebayo et al. 2018)",
            "n_scans": len(volumes),
            "likeness": {where: round(value, 4) for where, value in found.items()},
        }

    def _completeness(self) -> float | None:
        """By what share of the outputs' differences from the baseline's the attributions miss them, over all scans."""
        if not self.explanation.method.complete:
            return None
        missed = explained = 0.0
        for scan_id in self.explanation.scans["scan_id"]:
            numbers = json.loads(self._numbers(scan_id).read_text(encoding="utf-8"))
            difference = numbers["output"] - numbers["baseline_output"]
            missed += abs(numbers["sum"] - difference)
            explained += abs(difference)
        error = missed / explained if explained else float(missed > 0)
        if error > INCOMPLETE:
            warnings.warn(
                f"{self.path}: the attributions miss the outputs' differences by {error:.0%} on average: raise "
                f"{self.explanation.name}.n_steps",
                stacklevel=2,
            )
        return round(error, 6)

    def _record(self, n_native: int, sanity_check: dict[str, Any] | None) -> dict[str, Any]:
        explanation, weights = self.explanation, self.explanation.model.weights
        return {
            "method": explanation.name,
            "settings": explanation.settings,
            "output": explanation.model.output,
            "unit": explanation.model.unit,
            "signed": explanation.method.signed,
            "mean": "mean.nii.gz: of signed attributions; mean_absolute.nii.gz: of absolute ones",
            "run": weights.name,
            "weights": str(weights.path),
            "task": explanation.model.target.name if explanation.model.target else None,
            "cohort": self.volumes.cohort,
            "simulated": self.volumes.simulated,
            "grid": self.grid.name,
            "split": explanation.split,
            "n_scans": len(explanation.scans),
            "n_subjects": int(persons(explanation.scans).nunique()),
            "native": n_native,
            "completeness_error": self._completeness(),
            "sanity_check": sanity_check,
        }

    @staticmethod
    def _made_by() -> dict[str, Any]:
        made_by = environment()
        made_by["versions"] |= {name: version(name) for name in ("captum", "nilearn")}
        return {
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": command_line(private="scans"),
            **made_by,
        }

    @property
    def _scans(self) -> list[dict[str, str]]:
        columns = self.explanation.scans[["scan_id", "volume", "image_path"]]
        return [{str(key): str(value) for key, value in row.items()} for row in columns.to_dict("records")]

    @property
    def _text(self) -> str:
        return f"{self.explanation.name}: {self.explanation.model.output}"

    def _file(self, scan_id: str) -> Path:
        return self.path / "scans" / f"{scan_id}_attribution.nii.gz"

    def _numbers(self, scan_id: str) -> Path:
        return self.path / "scans" / f"{scan_id}_attribution.json"

    def _is_explained(self, scan_id: str) -> bool:
        return self._file(scan_id).is_file() and self._numbers(scan_id).is_file()
