"""Pruning: a trial of a search ends before its last epoch where other trials did better by then."""

from typing import Any

import lightning.pytorch as L

from neuro_ssl.callbacks.representation import Representation


class Pruning(L.Callback):
    """Tells Optuna the score at the end of each epoch that has one, and stops training when Optuna's pruner says so.

    Downstream that is the validation score that chooses the epoch, of pretraining each measurement of the objective
    (see `Representation`, which has to come before). The first process asks; all stop after the same epoch, and the
    state is saved as at any end of training, so that the same command can go on from there. The last epoch prunes
    nothing: all is done.

    Args:
        trial: an `optuna.Trial`; None outside a search.
        monitor: metric of the score.

    Attributes:
        pruned: whether training was stopped.
        epoch: after which, from 1.
    """

    def __init__(self, trial: Any | None, monitor: str | None) -> None:
        self.trial, self.monitor = trial, monitor
        self.pruned, self.epoch = False, 0

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After validation and measurement."""
        self.epoch = trainer.current_epoch + 1
        if self.trial is None or self.epoch == trainer.max_epochs or trainer.should_stop:
            return
        self.pruned = trainer.strategy.broadcast(trainer.is_global_zero and self._is_hopeless(trainer))
        trainer.should_stop = self.pruned

    def _is_hopeless(self, trainer: L.Trainer) -> bool:
        scores: dict[str, Any] = dict(trainer.callback_metrics)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Representation):
                scores |= callback.measured
        if self.trial is None or self.monitor not in scores:
            return False
        told = self.trial.study.get_trials(deepcopy=False)[self.trial.number].intermediate_values
        if self.epoch not in told:  # else a run that was killed goes on from an earlier epoch
            self.trial.report(float(scores[self.monitor]), self.epoch)
        return bool(self.trial.should_prune())
