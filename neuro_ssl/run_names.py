"""A run is named after what affects its result, so that the same command finds it again."""

import hashlib
import json
from collections.abc import Collection
from typing import Any

# What a run's name doesn't depend on: where and how it runs. Data and weights enter by their content instead, and of
# the dataset's settings its transform alone.
ELSEWHERE = {
    *("name", "debug", "data_dir", "runs_dir", "grid", "dataset", "weights", "needs_weights", "allow_leakage"),
    *("open_test", "num_workers", "ram_cache_gb", "checkpoint_minutes", "representation_every_epochs", "logger"),
    *("acceleration", "objective", "rerun_of"),
}
ELSEWHERE_IN = {
    "trainer": {
        *("accelerator", "devices", "num_nodes", "strategy", "benchmark", "log_every_n_steps", "inference_mode"),
    },
    "encoder": {"checkpoint_stages"},
    "task": {"reference"},
    "optimizer": {"fused"},
}
# Keys that came later, as they change nothing: runs from before keep their names.
NEUTRAL = [("micro_batch_size", None), ("early_stopping_patience", None), ("layer_decay", 1.0), ("tested", "all")]


def run_name(task: str, config: dict[str, Any], data: dict[str, str], weights: str | None) -> str:
    """Experiment, task, and eight digits that stand for all that affects the result.

    A sweep point and the same single run get one name; another place, strategy or logger gives no other.

    Args:
        task: name of the task.
        config: the resolved configuration; its `micro_batch_size` counts unless it is null, for encoders that
            normalise over what they see at once.
        data: `identity` of the volume store.
        weights: name of what the encoder starts from.
    """
    identity = that_matter(config)
    if transform := config["dataset"].get("transform"):
        identity["transform"] = transform
    identity |= {"data": data, "weights": weights}
    digits = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:8]
    return "-".join([config["name"], *([] if task in config["name"] else [task]), digits])


def that_matter(config: dict[str, Any]) -> dict[str, Any]:
    """The settings that a run is named after, data and weights aside."""
    settings = {key: value for key, value in config.items() if key not in ELSEWHERE}
    if settings["trainer"].get("sync_batchnorm"):  # with it, several devices compute what one does, which has no need
        settings["trainer"] = {**settings["trainer"], "sync_batchnorm": False}
    kept: dict[str, Any] = _that_matter(
        {key: _that_matter(value, ELSEWHERE_IN.get(key, ())) for key, value in settings.items()}
    )
    return kept


def _that_matter(settings: Any, elsewhere: Collection[str] = ()) -> Any:
    """A component's settings, at any depth, without these keys and without those that change nothing."""
    if not isinstance(settings, dict):
        return settings
    kept = ((key, v) for key, v in settings.items() if key not in elsewhere and (key, v) not in NEUTRAL)
    return {key: _that_matter(v, elsewhere) for key, v in kept}
