"""When callbacks may look at what the device computed: the host waits for it then, and the device for the host."""

import lightning.pytorch as L


def logging_is_due(trainer: L.Trainer) -> bool:
    """Whether the optimiser's step that has just ended is one that Lightning logs, every `log_every_n_steps`."""
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return every > 0 and trainer.global_step % every == 0 and not trainer.fit_loop._should_accumulate()
