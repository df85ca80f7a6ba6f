"""Short trainings on tiny brains, and something done in their midst."""

from neuro_ssl.callbacks import Progress


def options(recipe, runs, data_dir, *more):
    """Of a training of three epochs with three batches each."""
    return [
        *(f"+experiment={recipe}", "dataset=csv", "dataset.cohort=c", "grid=16mm", "trainer.max_epochs=3"),
        *("strategy=cpu", "batch_size=3", "encoder.width=8", "num_workers=0", "logger=csv", f"runs_dir={runs}"),
        *(f"data_dir={data_dir}", *more),
    ]


def at_step(monkeypatch, step, do, hook="on_train_batch_start"):
    """Do something once in a callback's hook, when so many optimiser steps are done."""
    original, done = getattr(Progress, hook), []

    def hooked(self, trainer, *args, **kwargs):
        original(self, trainer, *args, **kwargs)
        if trainer.global_step == step and not done:
            done.append(True)
            do(trainer)

    monkeypatch.setattr(Progress, hook, hooked)
