"""The top-level keys of every entry point and their types, registered with Hydra under `<name>_schema`."""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class SimulateConfig:
    """`python -m neuro_ssl.simulate`; the keys are the arguments of `neuro_ssl.simulation.simulate_cohort`."""

    debug: bool = MISSING
    data_dir: str = MISSING
    output: str = MISSING
    n_subjects: int = MISSING
    seed: int = MISSING
    spacing_mm: float = MISSING
    n_sites: int = MISSING
    scanners_per_site: int = MISSING
    field_strengths: list[float] = MISSING
    follow_up_fraction: float = MISSING
    n_follow_ups: int = MISSING
    retest_fraction: float = MISSING
    alzheimers_fraction: float = MISSING
    stroke_fraction: float = MISSING
    age_range: list[float] = MISSING
    effects: Any = MISSING
    n_jobs: int = MISSING
    overwrite: bool = MISSING


@dataclass
class PreprocessConfig:
    """`python -m neuro_ssl.preprocess`."""

    debug: bool = MISSING
    data_dir: str = MISSING
    grid: str = MISSING
    bias_correction: bool = MISSING
    brain_extraction: str = MISSING
    registration: str = MISSING
    splits: dict[str, float] = MISSING
    stratify: list[str] = MISSING
    seed: int = MISSING
    n_jobs: int = MISSING
    on_error: str = MISSING
    shard: int = MISSING
    num_shards: int = MISSING
    dataset: Any = MISSING


@dataclass
class QualityConfig:
    """`python -m neuro_ssl.quality`."""

    debug: bool = MISSING
    data_dir: str = MISSING
    grid: str = MISSING
    exclude_flagged: bool = MISSING
    n_jobs: int = MISSING
    dataset: Any = MISSING


@dataclass
class TrainConfig:
    """`python -m neuro_ssl.train`."""

    debug: bool = MISSING
    name: str = MISSING
    seed: int = MISSING
    data_dir: str = MISSING
    runs_dir: str = MISSING
    grid: str = MISSING
    batch_size: int = MISSING
    micro_batch_size: int | str | None = MISSING
    num_workers: int = MISSING
    ram_cache_gb: float = MISSING
    checkpoint_minutes: float = MISSING
    representation_every_epochs: int = MISSING
    objective: str | None = MISSING
    weights: str | None = MISSING
    needs_weights: bool = MISSING
    frozen: bool = MISSING
    label_fraction: float = MISSING
    label_seed: int = MISSING
    allow_leakage: bool = MISSING
    open_test: bool = MISSING
    early_stopping_patience: int | None = MISSING
    rerun_of: str | None = MISSING
    dataset: Any = MISSING
    split: Any = MISSING
    encoder: Any = MISSING
    views: Any = MISSING
    task: Any = MISSING
    sampling: Any = MISSING
    optimizer: Any = MISSING
    acceleration: Any = MISSING
    trainer: Any = MISSING
    logger: Any = MISSING


@dataclass
class EmbedConfig:
    """`python -m neuro_ssl.embed`."""

    debug: bool = MISSING
    data_dir: str = MISSING
    grid: str = MISSING
    weights: str | None = MISSING
    output: str = MISSING
    layer: Any = MISSING
    pooling: str = MISSING
    batch_size: int = MISSING
    num_workers: int = MISSING
    part_size: int = MISSING
    dataset: Any = MISSING
    trainer: Any = MISSING


@dataclass
class EvaluateConfig:
    """`python -m neuro_ssl.evaluate`."""

    debug: bool = MISSING
    data_dir: str = MISSING
    runs_dir: str = MISSING
    features_dir: str = MISSING
    grid: str = MISSING
    encoders: Any = MISSING
    tasks: list[str] = MISSING
    protocols: list[str] = MISSING
    test_sets: list[str] = MISSING
    n_untrained: int = MISSING
    from_scratch: list[str] = MISSING
    seeds: list[int] = MISSING
    label_fractions: list[float] = MISSING
    train_fractions: list[float] = MISSING
    label_seeds: list[int] = MISSING
    cross_validation: Any = MISSING
    statistics: Any = MISSING
    train: str = MISSING
    prepare: bool = MISSING
    reopen_test: bool = MISSING
    allow_leakage: bool = MISSING
    batch_size: int = MISSING
    num_workers: int = MISSING
    dataset: Any = MISSING
    trainer: Any = MISSING


@dataclass
class ExplainConfig:
    """`python -m neuro_ssl.explain`."""

    debug: bool = MISSING
    data_dir: str = MISSING
    runs_dir: str = MISSING
    grid: str = MISSING
    weights: str | None = MISSING
    target: str | None = MISSING
    methods: list[str] = MISSING
    scans: Any = MISSING
    max_scans: int | None = MISSING
    baseline: str | None = MISSING
    native: bool = MISSING
    sanity_check: bool = MISSING
    device: str = MISSING
    batch_size: int = MISSING
    dataset: Any = MISSING
    gradient_x_input: Any = MISSING
    integrated_gradients: Any = MISSING
    occlusion: Any = MISSING
    grad_cam: Any = MISSING


@dataclass
class ReportConfig:
    """`python -m neuro_ssl.report`."""

    debug: bool = MISSING
    runs_dir: str = MISSING
    runs: list[str] | None = MISSING
    output: str = MISSING
    figures: list[str] = MISSING
    embeddings: list[str] = MISSING
    projections: list[str] | None = MISSING


@dataclass
class SweepConfig:
    """Scores and settings by which sweeps of one stage are shown."""

    scores: list[str] = MISSING
    parameters: list[str] = MISSING


@dataclass
class SweepsConfig:
    """Those of both stages."""

    pretraining: SweepConfig = MISSING
    downstream: SweepConfig = MISSING


@dataclass
class DashboardConfig:
    """`python -m neuro_ssl.dashboard`."""

    debug: bool = MISSING
    runs_dir: str = MISSING
    output: str = MISSING
    entity: str | None = MISSING
    project: str = MISSING
    stage: str | None = MISSING
    group: str | None = MISSING
    tags: list[str] = MISSING
    sweeps: SweepsConfig = MISSING
    label_efficiency: list[str] = MISSING


@dataclass
class BenchmarkConfig:
    """`python -m neuro_ssl.benchmark`."""

    debug: bool = MISSING
    output: str = MISSING
    image: str | None = MISSING
    mask: str | None = MISSING
    parts: list[str] = MISSING
    grid: str = MISSING
    step_grid: str | None = MISSING
    device: str = MISSING
    batch_size: int = MISSING
    micro_batch_size: int = MISSING
    loss_sizes: list[Any] = MISSING
    num_workers: int = MISSING
    n_scans: int = MISSING
    n_steps: int = MISSING
    min_seconds: float = MISSING
    encoder: Any = MISSING


SCHEMAS: dict[str, Any] = {
    "simulate": SimulateConfig,
    "preprocess": PreprocessConfig,
    "quality": QualityConfig,
    "train": TrainConfig,
    "embed": EmbedConfig,
    "evaluate": EvaluateConfig,
    "explain": ExplainConfig,
    "report": ReportConfig,
    "dashboard": DashboardConfig,
    "benchmark": BenchmarkConfig,
}
for _name, _schema in SCHEMAS.items():
    ConfigStore.instance().store(name=f"{_name}_schema", node=_schema)
