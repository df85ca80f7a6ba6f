"""README.md of exported weights: a model card in the Hugging Face hub's form (Mitchell et al. 2019)."""

from collections.abc import Mapping, Sequence

import yaml

from neuro_ssl.checkpoint import Weights
from neuro_ssl.contract import Intensity
from neuro_ssl.data.leakage import Seen
from neuro_ssl.evaluation.metrics import METRICS
from neuro_ssl.reporting.cells import format_score
from neuro_ssl.reporting.runs.reading import DownstreamRun

LICENCE_MISSING = "not chosen yet"
ADVICE = "research alone; README.md says what it is made for"
INTENSITIES: dict[Intensity, str] = {
    "z_score_brain": "mean 0 and variance 1 over the brain, exactly 0 outside",
    "z_score_volume": "mean 0 and variance 1 over all voxels, after everything outside of the brain was made 0",
    "min_max": "0 to 1 over all voxels, 0 outside of the brain",
}


def model_card(
    weights: Weights, seen: Seen, scores: Sequence[DownstreamRun], licence: str | None, graphs: Mapping[str, bool]
) -> str:
    """The card's text.

    Args:
        weights: with card and contract.
        seen: what the folder says about whom they were trained on.
        scores: downstream runs that started from them.
        licence: as the hub names it; None leaves a gap, which the hub refuses, so that it isn't overlooked.
        graphs: the other files of the folder, and whether each was written.
    """
    simulated = weights.record["dataset"]["simulated"]
    front = {
        "license": licence or "FILL-IN",
        "library_name": "neuro_ssl",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["medical", "mri", "brain", "neuroimaging", "t1w", "3d", *(["simulated-data"] if simulated else [])],
    }
    sections = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# {weights.name}\n\n{weights.card['title']}.",
        f"## Use\n\n{_use(weights, graphs)}",
        f"## Input\n\n{_input(weights)}",
        f"## Intended use and limits\n\n{_limits(weights)}",
        f"## Training\n\n{_training(weights)}",
        f"## Leakage\n\n{_leakage(seen)}",
        f"## Scores\n\n{_scores(scores)}",
        f"## Licence\n\n{_licence(weights, licence)}",
        f"## Citation\n\n{weights.card['citation']}. The cohorts ask to be cited too.",
    ]
    return "\n\n".join(sections) + "\n"


def _use(weights: Weights, graphs: Mapping[str, bool]) -> str:
    code = (
        "```python\nimport neuro_ssl\n\n"
        'encoder = neuro_ssl.load_encoder("FOLDER")  # or "hf://ORG/NAME"; encoder.input_contract: what it expects\n'
        'features = neuro_ssl.embed_files("FOLDER", ["sub-01_T1w.nii.gz"])  # preprocesses, then (n, features)\n```'
    )
    files = {
        "model.onnx": "`model.onnx`: input `volume`, output `features`, any batch size",
        "model.pt2": '`model.pt2`: `torch.export.load("model.pt2").module()(volume)`, any batch size',
    }
    written = [f"- {text}; takes volumes as below, normalised already" for name, text in files.items() if graphs[name]]
    return "\n\n".join([code, *(["\n".join(written)] if written else [])])


def _input(weights: Weights) -> str:
    contract = weights.contract
    assert contract is not None and contract.shape is not None
    return (
        f"T1-weighted, (batch, 1, z, y, x), {'×'.join(map(str, contract.shape))} voxels along (z, y, x) at "
        f"{contract.spacing_mm:g} mm in MNI152 space, increasing towards superior, anterior and right. Intensity: "
        f"{contract.intensity}, {INTENSITIES[contract.intensity]}. Preprocessing: {contract.preprocessing}; "
        f"`grid={contract.grid}`."
    )


def _limits(weights: Weights) -> str:
    lines = [
        "- For research: features of T1w brain MRI to train or fine-tune classifiers and regressions on.",
        "- Not a medical device, and not for decisions about a person.",
        "- Untested outside of the cohorts, scanners, ages and preprocessing named here; compare with an untrained "
        "encoder, and look at reliability across scanners, before you trust it with your data.",
        "- Ages, sexes, sites and ethnic groups are those of the cohorts; no correction was made.",
    ]
    if weights.record["dataset"]["simulated"]:
        lines.insert(0, "- **Trained on SIMULATED images**: for trying the software out, of no use for real brains.")
    if weights.record["stage"] == "downstream":
        lines.append("- The encoder of a downstream run, without the layer that predicts.")
    if (advice := weights.card["advice"]) != ADVICE:
        lines.append(f"- Of the weights that these started from: {advice}.")
    return "\n".join(lines)


def _training(weights: Weights) -> str:
    record = weights.record
    dataset = record["dataset"]
    trained = {key: dataset[key].get("train", 0) for key in ("n_scans", "n_subjects")}
    lines = [
        f"- Cohorts: {', '.join(weights.card['cohorts']) or 'not known'}"
        f"{' (SIMULATED, no real brains)' if dataset['simulated'] else ''}",
        f"- This run: {trained['n_scans']} scans of {trained['n_subjects']} subjects of {dataset['cohort']}",
        f"- Task: {record['task']} ({record['stage']}), epochs {record['epochs']}, batch size {record['batch_size']}, "
        f"seed {record['seed']}",
        f"- Encoder: {record['encoder']['name']}, {record['encoder']['parameters_millions']} M parameters",
        f"- Code: neuro_ssl {record['versions']['neuro_ssl']}, commit {record.get('commit') or 'not known'}"
        f"{', changed' if record.get('dirty') else ''}",
    ]
    if covariates := record.get("covariates"):
        lines.append(f"- Learnt from labels of the training subjects: {', '.join(covariates)}")
    if origin := record.get("started_from"):
        lines.append(f"- Started from the weights {origin}")
    return "\n".join(lines)


def _leakage(seen: Seen) -> str:
    if seen.subjects:
        known = "" if seen.complete else "; the list is not complete"
        return (
            f"`seen.json` lists {len(seen.subjects)} hashed subjects that these weights have seen{known}: "
            "neuro_ssl refuses to evaluate them with these. The hashes are unkeyed: whoever knows a cohort's ids can "
            "tell who is in it."
        )
    return (
        "`seen.json` names the cohorts and no subject, so that neuro_ssl calls every evaluation's leakage unknown. "
        "Don't evaluate on subjects of these cohorts unless you know that they were not trained on."
    )


def _scores(runs: Sequence[DownstreamRun]) -> str:
    if not runs:
        return "None given."
    rows = []
    for run in runs:
        results, unit = run.results, f" {run.results.unit}" if run.results.unit else ""
        metrics = METRICS[results.kind]
        shown = [
            f"{metrics[name].label} {format_score(interval.score)}{unit if metrics[name].in_target_unit else ''}"
            for name, interval in results.scores.items()
        ]
        leakage = str(results.leakage) if results.leakage else "leakage: not looked up"
        cells = (results.task, run.model, run.info.dataset.title, str(run.info.seed), "; ".join(shown))
        rows.append("| " + " | ".join([*cells, f"{results.n_test_subjects}", leakage]) + " |")
    head = "| task | model | data | seed | scores on the test split | test subjects | leakage |\n" + "|---" * 7 + "|"
    return "With 95 % intervals (bootstrap over subjects), of runs that started from these weights:\n\n" + "\n".join(
        [head, *rows]
    )


def _licence(weights: Weights, licence: str | None) -> str:
    if licence is None:
        gap = (
            "**To be filled in**, above (`license:`) and here, by whoever publishes these weights; the cohorts' terms "
        )
        return f"{gap}may restrict it. In config.json: {weights.card['licence']}."
    return f"{weights.card['licence']}. The cohorts' terms hold beside it."
