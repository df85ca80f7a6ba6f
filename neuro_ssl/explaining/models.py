"""The model that is explained, from any weights: with its task's head, or without one."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from neuro_ssl.checkpoint import Weights
from neuro_ssl.data.targets import Target, read_targets
from neuro_ssl.encoders import Encoder
from neuro_ssl.errors import InputError
from neuro_ssl.explaining.output import Distance, Explained, Linear
from neuro_ssl.tasks.head import head_of


@dataclass(frozen=True)
class ExplainedModel:
    """Weights and which number of theirs is explained.

    Attributes:
        weights: of the encoder, and of the head if they are a downstream run's.
        target: what that run predicts; None: the encoder has no head.
        place: of the target among those of the run.
    """

    weights: Weights
    target: Target | None
    place: int = 0

    @classmethod
    def of(cls, weights: Weights, target: str | None = None) -> "ExplainedModel":
        """What these weights predict.

        Args:
            weights: of any kind.
            target: which of a multitask run's targets, by name; None where there is one, or none.

        Raises:
            InputError: no such target, or several and none is named.
        """
        if weights.record.get("stage") != "downstream" or weights.contract is not None:
            if target is not None:
                raise InputError(
                    f"target={target}: weights={weights.path} have no head that predicts anything; leave target out, "
                    "or take a downstream run"
                )
            return cls(weights, None)
        targets = read_targets(weights.record["task"], weights.record["config"]["task"])
        names = [one.name for one in targets]
        if (target is None and len(names) > 1) or (target is not None and target not in names):
            raise InputError(f"target={target}: weights={weights.path} predict {', '.join(names)}; choose one of these")
        place = 0 if target is None else names.index(target)
        return cls(weights, targets[place], place)

    @property
    def head_hash(self) -> str:
        """What tells the head from any other on the same encoder, such as another probe's; of no head, nothing."""
        if self.target is None:
            return ""
        weight, intercept = head_of(self.weights.path, self.place)
        return hashlib.sha256(weight.tobytes() + repr(intercept).encode()).hexdigest()[:16]

    @property
    def output(self) -> str:
        """What is explained, in words."""
        if self.target is None:
            return "half the squared distance of the scan's features from their mean over the explained scans"
        if self.target.classes:
            return f"logit of {self.target.target} = {self.target.classes[1]}"
        unit = f" ({self.target.unit})" if self.target.unit else ""
        return f"predicted {self.target.quantity}{unit}"

    @property
    def unit(self) -> str:
        """Of the output."""
        if self.target is None:
            return "squared standard deviations"
        return "logit" if self.target.classes else self.target.unit or self.target.target

    def build(self, features: Tensor | None = None) -> Explained:
        """The model, on the CPU.

        Args:
            features: needed of an encoder without a head: those of all explained scans, (scans, features).

        Raises:
            InputError: weights that cannot be read, or too few scans to differ from one another.
        """
        encoder = self.weights.build_encoder().eval()
        if self.target is None:
            if features is None:
                raise ValueError("an encoder without a head needs the features of the scans that it is explained by")
            return Explained(encoder, Distance(features))
        weight, intercept = head_of(self.weights.path, self.place)
        return Explained(encoder, Linear(torch.from_numpy(weight), intercept))

    def check_grid(self, shape: tuple[int, int, int]) -> None:
        """Refuse volumes that are too small for the encoder."""
        encoder = self.weights.build_encoder()
        if isinstance(encoder, Encoder):
            encoder.check_grid(shape)
