"""The methods' parts on encoders, pretraining and tasks; what several runs have in common is told once."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from neuro_ssl.reporting.methods.networks import encoder, views
from neuro_ssl.reporting.methods.words import counted, listed, or_unknown, sentences, unknown
from neuro_ssl.reporting.runs.reading import DownstreamRun, PretrainingRun, Run
from neuro_ssl.reporting.runs.records import RunInfo

PRECISIONS = {
    "32-true": "in single precision",
    "bf16-mixed": "in mixed precision (bfloat16)",
    "16-mixed": "in mixed precision (float16)",
    "64-true": "in double precision",
}
ALGORITHMS = {
    "adamw": "AdamW (Loshchilov & Hutter 2019)",
    "adam": "Adam (Kingma & Ba 2015)",
    "lars": "LARS (You et al. 2017)",
}
SCORES = {"loss": "loss", "mae": "mean absolute error", "auroc": "area under the ROC curve"}
LOSSES = {"regression": "the squared error", "classification": "the cross-entropy"}
SCALED = " (of targets with mean 0 and variance 1 over the training split)"
OURS = (None, "z_score_brain")  # how a brain's intensities are normalised, unless weights of others say otherwise
AnyRun = TypeVar("AnyRun", bound=Run)


def encoders(runs: Sequence[Run]) -> str:
    """What each encoder is; later paragraphs say `the encoder`."""
    told = {encoder(run.info): run.info.encoder.name for run in runs}
    if len(told) == 1:
        text = f"The encoder was {next(iter(told))}."
    else:
        text = f"There were {len(told)} encoders: {'; '.join(f'{name}, {text}' for text, name in told.items())}."
    others = {run.info.weights.name for run in runs if run.info.weights and run.info.weights.intensity not in OURS}
    if others:
        return f"{text} {unknown(f'how intensities were normalised for {listed(sorted(others))}')}."
    were = "It was" if len(told) == 1 else "They were"
    return f"{text} {were} shown volumes whose brain voxels had mean 0 and variance 1."


def pretraining(runs: Sequence[PretrainingRun]) -> str:
    """A paragraph a way of pretraining."""
    several = len({run.info.encoder.name for run in runs}) > 1
    return "\n\n".join(
        sentences(text, _kept(members, len(runs) > 1), _seeds(members))
        for text, members in _alike(runs, lambda run: _pretrained(run.info, several)).items()
    )


def tasks(runs: Sequence[DownstreamRun], pretrained: Collection[str]) -> str:
    """What was predicted and how that was learnt, then a paragraph a protocol.

    Args:
        runs: on the tasks.
        pretrained: names of the pretraining runs that are told of already.
    """
    targets = list(dict.fromkeys(_target(run) for run in runs))
    augmented = f"{unknown('whether scans were augmented')}."
    if all("views" in run.info.config for run in runs):
        augmented = "" if any(views(run.info.config["views"]) for run in runs) else "Scans were not augmented."
    first = sentences(
        f"A linear layer on the encoder’s features predicted {listed(targets)} from single scans.",
        _losses(runs),
        augmented,
        _chosen(runs),
    )
    every = {run.results.task for run in runs}
    paragraphs = [first]
    for text, members in _alike(runs, _trained).items():
        names = list(dict.fromkeys(run.results.task for run in members))
        of = "" if set(names) == every else f" (of {listed([name.replace('_', ' ') for name in names])})"
        begun = listed(list(dict.fromkeys(_begun(run, pretrained) for run in members)))
        head, _, rest = text.partition("|")
        paragraphs.append(sentences(f"{head.format(of=of, begun=begun)}", rest, _seeds(members)))
    return "\n\n".join(paragraphs)


def _alike(runs: Sequence[AnyRun], told: Callable[[AnyRun], str]) -> dict[str, list[AnyRun]]:
    """Runs of which the same is told."""
    groups: dict[str, list[AnyRun]] = {}
    for run in runs:
        groups.setdefault(told(run), []).append(run)
    return groups


def _pretrained(info: RunInfo, several: bool) -> str:
    config = info.config
    n_scans, n_subjects = info.dataset.n_scans.get("train", 0), info.dataset.n_subjects.get("train", 0)
    on = f"the {counted(n_scans, 'training scan')} of {counted(n_subjects, 'subject')} of cohort {info.dataset.cohort}"
    which = f"The encoder{f' {info.encoder.name}' if several else ''}"
    began = f"from the weights of {info.weights.name}" if info.weights else "from random weights"
    labels = f"with {listed(info.covariates)} as labels" if info.covariates else "without labels"
    node = config.get("task")
    how = _objective(node) if isinstance(node, Mapping) else unknown("how; its record holds no settings")
    contrastive = isinstance(node, Mapping) and "projector_dims" in node
    return sentences(
        f"{which} was pretrained {began} on {on}, {labels}, {how}.",
        _views(config, pair=contrastive),
        _optimised(info),
    )


def _kept(runs: Sequence[PretrainingRun], named: bool) -> str:
    """Which weights, and what later paragraphs call them where there are others."""
    names = f", as {listed([run.info.name for run in runs])}" if named else ""
    return f"The weights of the last epoch were kept{names}."


@or_unknown("the objective")
def _objective(node: Mapping[str, Any]) -> str:
    kind = str(node.get("_target_", "")).rpartition(".")[2]
    contrast = hidden = ""
    if "projector_dims" in node:
        head = " → ".join(map(str, node["projector_dims"]))
        others = "counted as positives" if node["positives"] == "subject" else "were neither positives nor negatives"
        contrast = f"a projection head of widths {head} and a temperature of {node['temperature']:g}"
        contrast += f"; a subject’s other scans {others}"
    if "mask_ratio" in node:
        hidden = (
            f"{100 * node['mask_ratio']:g} % of the patches hidden and a decoder of {node['decoder_layers']} layers "
        )
        hidden += f"of width {node['decoder_width']}"
    match kind:
        case "SimCLR":
            return f"by SimCLR (Chen et al. 2020) with {contrast}"
        case "YAware":
            pairs = zip(node["covariates"], node["bandwidths"], strict=True)
            kernel = listed([f"{name} (σ = {sigma:g})" for name, sigma in pairs])
            return f"by y-aware contrastive learning (Dufumier et al. 2021) on {kernel}, with {contrast}"
        case "MAE":
            return f"as a masked autoencoder (He et al. 2022) with {hidden}"
        case "SimCLRMAE":
            both = f"by SimCLR (Chen et al. 2020; {contrast}) and as a masked autoencoder (He et al. 2022; {hidden})"
            return f"{both} at once"
    return f"by {unknown(f'the objective {kind}')}"


def _views(config: Mapping[str, Any], pair: bool) -> str:
    changed = views(config.get("views"))
    if not changed:
        return ""
    return (
        f"{'Two random views' if pair else 'A random view'} of each scan {'were' if pair else 'was'} drawn: {changed}."
    )


@or_unknown("optimiser and schedule")
def _optimised(info: RunInfo) -> str:
    """Optimiser, epochs, batch, precision; then rates."""
    config, node = info.config, info.config.get("optimizer")
    if not isinstance(node, Mapping):
        return f"{unknown('optimiser and schedule')}."
    patience = config.get("early_stopping_patience")
    precision = str(config["trainer"].get("precision"))
    most, early = ("", "") if patience is None else ("at most ", _early(patience))
    algorithm = ALGORITHMS.get(node["algorithm"], node["algorithm"])
    batches = f"in batches of {counted(info.batch_size, 'scan')}, {PRECISIONS.get(precision, precision)}"
    text = f"Training used {algorithm} for {most}{counted(info.epochs, 'epoch')}{early}, {batches}."
    return sentences(text, _rates(node), _further(config))


def _early(patience: int) -> str:
    return f", or until {counted(patience, 'epoch')} had brought no better validation score"


def _rates(node: Mapping[str, Any]) -> str:
    warmup, rate = node.get("warmup_fraction"), f"{node['learning_rate']:g}"
    begun = f"rose linearly to {rate} over the first {100 * warmup:g} % of steps" if warmup else f"began at {rate}"
    if node["schedule"] == "cosine":
        text = f"The learning rate {begun} and fell to zero by a cosine (Loshchilov & Hutter 2017)"
    else:
        text = f"The learning rate {begun} and stayed there" if warmup else f"The learning rate was {rate}"
    text += f"; the weight decay was {node['weight_decay']:g}" if node["weight_decay"] else "; weights did not decay"
    if (decay := node.get("layer_decay", 1.0)) != 1:
        text += (
            f"; each group of the encoder’s layers learned at {decay:g} times the rate of the next (Bao et al. 2022)"
        )
    return f"{text}."


def _further(config: Mapping[str, Any]) -> str:
    """What not every run does."""
    clip, sampling = config["trainer"].get("gradient_clip_val"), config.get("sampling") or {}
    balance = sampling.get("balance")
    return sentences(
        "Gradients of batches were computed by parts (Gao et al. 2021)." if config.get("micro_batch_size") else "",
        f"Gradients were clipped to a norm of {clip:g}." if clip else "",
        "An epoch took one scan of each subject." if sampling.get("sessions") == "one" else "",
        f"Each {balance} had a share of an epoch ∝ (its size)^{sampling['exponent']:g}." if balance else "",
    )


def _target(run: DownstreamRun) -> str:
    results = run.results
    name = results.task.replace("_", " ")
    if results.kind == "regression":
        return f"{name} ({results.target}{f', in {results.unit}' if results.unit else ''})"
    node = run.info.config.get("task")
    node = node if isinstance(node, Mapping) else {}
    node = (node.get("targets") or {}).get(results.task, node)
    classes = [str(one) for one in node.get("classes") or []]
    column = "" if results.target == results.task else results.target
    against = f"{classes[1]} against {classes[0]}" if len(classes) == 2 else ""
    of = ": ".join(filter(None, [column, against]))
    without = f"without {listed([str(one) for one in node['leave_out']])}" if node.get("leave_out") else ""
    about = ", ".join(filter(None, [of, without]))
    return f"{name} ({about})" if about else name


def _losses(runs: Sequence[DownstreamRun]) -> str:
    told: dict[str, None] = {}
    for run in runs:
        node = run.info.config.get("task")
        scaled = run.results.kind == "regression" and isinstance(node, Mapping) and node.get("standardise_target")
        told[f"{LOSSES[run.results.kind]}{SCALED if scaled else ''}"] = None
    many = " Where a model learnt several targets at once, it was their mean." if _multitask(runs) else ""
    return f"Training minimised {' or '.join(told)}.{many}"


def _multitask(runs: Sequence[DownstreamRun]) -> bool:
    return any(run.results.multitask for run in runs)


def _chosen(runs: Sequence[DownstreamRun]) -> str:
    """Which epoch's weights are judged."""
    by: dict[str, list[str]] = {}
    for run in runs:
        metric = run.info.validation.metric.rpartition("/")[2] if run.info.validation else "score"
        name = "all targets at once" if run.results.multitask else run.results.task.replace("_", " ")
        by.setdefault(SCORES.get(metric, metric), []).append(name)
    if len(by) == 1:
        how = next(iter(by))
    else:
        how = listed([f"{score} ({listed(list(dict.fromkeys(names)))})" for score, names in by.items()])
    return f"The weights of the epoch with the best validation {how} were tested."


def _begun(run: DownstreamRun, pretrained: Collection[str]) -> str:
    """What the encoder was at first."""
    if not run.info.weights:
        return "of an untrained encoder"
    if [run.info.weights.name] == list(pretrained):
        return "of the pretrained encoder"
    citation = f" ({run.info.weights.citation})" if run.info.weights.citation else ""
    return f"of {run.info.weights.name}{citation}"


def _trained(run: DownstreamRun) -> str:
    """A protocol, with places for tasks and initial weights, `|`, and its settings."""
    config = run.info.config
    head = {
        "linear_probe": "Linear probe{of}: the encoder stayed as it was; its features were those {begun}.",
        "finetune": "Fine-tuning{of}: linear layer and encoder were trained together, from the weights {begun}.",
        "from_scratch": "From scratch{of}: linear layer and encoder were trained together, from random weights.",
    }[run.results.protocol]
    changed = views(config.get("views"))
    at_once = "All targets were learnt at once." if run.results.multitask else ""
    return f"{head}|{sentences(at_once, f'Scans were augmented: {changed}.' if changed else '', _optimised(run.info))}"


def _seeds(runs: Sequence[Run]) -> str:
    seeds = sorted({run.info.seed for run in runs})
    told = f"The seed was {seeds[0]}." if len(seeds) == 1 else f"The seeds were {listed([str(s) for s in seeds])}."
    trained = sorted({run.info.epochs_trained or run.info.epochs for run in runs})
    if trained == [runs[0].info.epochs]:
        return told
    took = f"{trained[0]} to {trained[-1]}" if len(trained) > 1 else str(trained[0])
    return f"It took {took} epochs. {told}"
