"""How a picture in the run directory gets to those loggers that take some."""

from pathlib import Path

import lightning.pytorch as L


def offer_picture(trainer: L.Trainer, key: str, file: Path, *, aggregate: bool = False) -> None:
    """Offer a picture to the loggers; a tracker of ours takes those of people with `logger.images=upload` alone.

    A slice of a scan, a map over one, and a point for each person are pictures of people.

    Args:
        trainer: whose loggers.
        key: what they call it.
        file: a PNG, without ids.
        aggregate: it shows many people together, as a ROC curve does, and may always leave the machine.
    """
    how = {"aggregate": True} if aggregate else {}
    for logger in trainer.loggers:
        if hasattr(logger, "log_image"):
            logger.log_image(key, [str(file)], trainer.global_step, **how)
