"""The linear layer of a finished downstream run, read from its checkpoint without Lightning."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from neuro_ssl.errors import InputError

Array = npt.NDArray[np.float64]


def head_of(run: Path, place: int) -> tuple[Array, float]:
    """The linear layer that a finished run put on its encoder's features, in the target's own unit or as a logit.

    Args:
        run: its directory.
        place: of the target among those of the run.

    Returns:
        Weights (features,) and intercept: the prediction is their sum with the features.

    Raises:
        InputError: a checkpoint that holds no such layer.
    """
    file = run / "checkpoints" / "best.ckpt"
    state = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
    try:
        weight, bias = (state[f"head.{name}"].double().numpy() for name in ("weight", "bias"))
        mean, sd, target_mean, target_sd = (
            np.atleast_1d(state[name].double().numpy())
            for name in ("feature_mean", "feature_sd", "target_mean", "target_sd")
        )
    except KeyError as error:
        raise InputError(f"{file} holds no head of a task ({error}); delete the run and train it again") from error
    weight = weight[place] / sd * target_sd[place]
    return weight, float(bias[place] * target_sd[place] + target_mean[place] - weight @ mean)
