"""How a picture in the run directory gets to those loggers that take some."""

from inspect import signature
from pathlib import Path

import lightning.pytorch as L


def offer_picture(trainer: L.Trainer, key: str, file: Path, *, aggregate: bool = False) -> None:
    """Offer a picture to the loggers; those of people to such alone as tell them apart, which may refuse them.

    A slice of a scan, a map over one, and a point for each person are pictures of people. W&B's logger of ours takes
    them with `logger.images=upload` alone; Lightning's, which would upload whatever it is given, gets none.

    Args:
        trainer: whose loggers.
        key: what they call it.
        file: a PNG, without ids.
        aggregate: it shows many people together, as a ROC curve does, and may always leave the machine.
    """
    for logger in trainer.loggers:
        if not hasattr(logger, "log_image"):
            continue
        if "aggregate" in signature(logger.log_image).parameters:
            logger.log_image(key, [str(file)], trainer.global_step, aggregate=aggregate)
        elif aggregate:
            logger.log_image(key, [str(file)], trainer.global_step)
