"""The charts, by the names that runs log; and in words what each tells, and when to worry.

Workspace and report are laid out from these alone, so that a chart and what is said of it stay together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from neuro_ssl.callbacks.health import COLLAPSED_RANK, COLLAPSED_SD

STEP = "trainer/global_step"  # what Lightning counts; W&B's own steps are calls of its logger


@dataclass(frozen=True)
class Chart:
    """Metrics of one scale.

    Attributes:
        title: above the chart.
        metrics: by name, of the history; with `final`, of the summary.
        tells: what they tell, and when to worry.
        pattern: a regular expression in place of the names, where these hang on the data.
        log: a logarithmic vertical axis.
        final: bars of runs, in place of lines over steps.
        both: the other stage's runs have these metrics too, of which a reader wouldn't think here.
    """

    title: str
    metrics: tuple[str, ...]
    tells: str
    pattern: str | None = None
    log: bool = False
    final: bool = False
    both: bool = False


LOSS = "Worry if neither falls over the first epochs, or if validation rises for long while training falls on."

PRETRAINING: Sequence[Chart] = (
    Chart("Loss", ("train/loss", "val/loss"), f"Of training scans and of held-out subjects. {LOSS}", both=True),
    Chart(
        "Parts of the loss",
        ("val/contrastive_loss", "val/reconstruction_loss"),
        "Of tasks that have two. Worry if one falls at the other's expense: weigh them anew.",
    ),
    Chart(
        "Contrastive accuracy",
        ("val/contrastive_accuracy", "representation/contrastive_accuracy"),
        "How often a view is nearest to its scan's other view. Near 1 from early on, the views are too easy, and what "
        "is learnt to tell them apart may have little to do with anatomy; near chance for long, they are too hard.",
    ),
    Chart(
        "Effective rank",
        ("val/rankme", "representation/rankme"),
        "RankMe: in how many directions held-out scans differ. Worry if it falls, and stop near 1: below "
        f"{COLLAPSED_RANK:g} the run itself warns of a collapse.",
    ),
    Chart(
        "Spread of embeddings",
        ("val/embedding_sd",),
        "0 if all scans look alike to the encoder, about 1 if their embeddings point anywhere. Below "
        f"{COLLAPSED_SD:g} the run warns of a collapse.",
    ),
    Chart(
        "Alignment",
        ("representation/alignment",),
        "Distance of two views of a scan: 0 if the encoder ignores what views change. By itself it is no merit: it is "
        "0 after a collapse too.",
    ),
    Chart(
        "Uniformity",
        ("representation/uniformity",),
        "How evenly scans spread; lower is more even, 0 is a collapse. Together with alignment: both should fall.",
    ),
    Chart(
        "Age, probed",
        ("representation/age_years_ridge_mae", "representation/age_years_knn_mae"),
        "Mean absolute error in years of simple models on frozen features, fitted on training subjects and scored on "
        "validation subjects. The surest sign that something useful is learnt: it should fall. Where it rises again, "
        "later epochs serve this purpose less.",
    ),
    Chart(
        "Sex, probed",
        ("representation/sex_logistic_auroc", "representation/sex_knn_auroc"),
        "AUROC of the same kind of probe. Head size alone tells much of it, so that a high value is a weak sign.",
    ),
    Chart(
        "Diagnosis, probed",
        (),
        "AUROC of each diagnosis against controls, where both splits have enough subjects. With few of them it jumps "
        "by chance: look at the trend.",
        pattern=r"^representation/diagnosis_.+_auroc$",
    ),
)
TRAINING: Sequence[Chart] = (
    Chart(
        "Learning rate", ("learning_rate",), "Warms up, then falls as a cosine. Only a check that it is what was meant."
    ),
    Chart(
        "Gradient norm",
        ("gradient_norm",),
        "Before clipping, on a logarithmic axis. Worry about growth by orders of magnitude, and about single peaks "
        "that the loss answers with a jump: lower optimizer.learning_rate or set trainer.gradient_clip_val.",
        log=True,
    ),
    Chart(
        "Throughput",
        ("throughput/scans_per_s",),
        "Training scans a second over all devices. Worry if it falls within a run: another job on the machine, a slow "
        "file system, a GPU that is too hot.",
    ),
    Chart(
        "Waiting for data",
        ("throughput/waiting_share",),
        "Share of the time in which the device has nothing to do. Above a tenth: more num_workers, ram_cache_gb, or a "
        "faster disk.",
    ),
    Chart(
        "Memory (GB)", ("throughput/memory_gb",), "The most so far. Near the device's limit, lower micro_batch_size."
    ),
    Chart(
        "Share of the GPU's peak",
        ("throughput/mfu",),
        "Model FLOPs utilisation; on GPUs alone. Low without waiting: larger (micro-)batches, trainer.precision="
        "bf16-mixed, acceleration.channels_last, acceleration.compile.",
    ),
    Chart(
        "Cost of measuring the representation",
        ("representation/share_of_time",),
        "Of the training time. If it is too much: a larger representation_every_epochs.",
    ),
)
DOWNSTREAM: Sequence[Chart] = (
    Chart("Loss", ("train/loss", "val/loss"), f"Of training scans and of validation subjects. {LOSS}", both=True),
    Chart(
        "Validation AUROC",
        ("val/auroc",),
        "What chooses the epoch of a classification. If the best epoch is the first, the learning rate is too high; if "
        "it is the last, training was too short. On few subjects it moves in steps, by chance.",
    ),
    Chart(
        "Validation MAE",
        ("val/mae",),
        "In the target's unit, of a regression, whose epoch the validation loss chooses. Worry if it stays where a "
        "model that always predicts the mean is.",
    ),
    Chart(
        "Validation, of several targets",
        (),
        "The same of each target of a multi-task run.",
        pattern=r"^val/.+/(auroc|mae)$",
    ),
    Chart(
        "Test AUROC, with its 95 % interval",
        ("test/auroc", "test/auroc_low", "test/auroc_high"),
        "The end result, of a test split that was opened once. Intervals are over subjects; where those of two runs "
        "overlap, python -m neuro_ssl.report compares them pair by pair.",
        final=True,
    ),
    Chart(
        "Test MAE, with its 95 % interval",
        ("test/mae", "test/mae_low", "test/mae_high"),
        "The same of a regression, in the target's unit.",
        final=True,
    ),
)


@dataclass(frozen=True)
class Pictures:
    """What runs draw.

    Attributes:
        title: above them.
        keys: that runs log them by.
        tells: what they show, and when to worry.
    """

    title: str
    keys: tuple[str, ...]
    tells: str


MEDIA: Sequence[Pictures] = (
    Pictures(
        "Views",
        ("views",),
        "Scans and what pretraining makes of them. Worry if a view no longer looks like a brain of the same person, or "
        "if all look the same.",
    ),
    Pictures(
        "Reconstructions",
        ("reconstructions",),
        "What a masked autoencoder makes of hidden patches. Blurred folds are normal; patches that don't fit their "
        "neighbours late in training are not.",
    ),
    Pictures(
        "ROC curves",
        ("test/roc", "val/roc"),
        "Of the test split, or of validation where that stayed closed. An aggregate, which runs always log.",
    ),
    Pictures(
        "Predicted against true",
        ("test/predicted_vs_true", "val/predicted_vs_true"),
        "A point a scan, of regressions. A flat cloud predicts the mean; a slope below 1 is the rule for ages.",
    ),
    Pictures(
        "Saliency",
        ("saliency",),
        "Gradient × input of a few validation scans: where the prediction would change with the image. Worry about "
        "colour at the brain's edge or along a cut. python -m neuro_ssl.explain makes whole maps, and checks them.",
    ),
)
LOCAL = (
    "Pictures of people (all but ROC curves) stay in the run directories, unless runs are given logger.images=upload; "
    "data-use agreements commonly forbid that."
)
