"""What the page shows of embeddings: frozen features in two dimensions, coloured by label, site and age."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neuro_ssl.console import progress_bar
from neuro_ssl.reporting.embeddings.encoded import ScanSet, of_evaluations, of_files
from neuro_ssl.reporting.embeddings.figures import NAMES, colourings, embedding
from neuro_ssl.reporting.embeddings.projections import MIN_SCANS, PROJECTIONS, UMAP_EXTRA, choose
from neuro_ssl.reporting.panel import Panel, file_name
from neuro_ssl.reporting.section import Section

MAX_POINTED = 12_000  # points of the section that say what they are; 4 MB of the page
MAX_ROWS = 6  # encoders a figure, so that it fits on a page that is printed


@dataclass(frozen=True)
class Cloud:
    """What the page shows of one set of scans."""

    id: str
    title: str
    about: str
    panels: list[Panel]
    held_out: bool


def embedding_sections(
    results: Sequence[Path], files: Sequence[str] = (), projections: Sequence[str] | None = None
) -> list[Section]:
    """The section, or none where there are no features.

    Args:
        results: directories with an `evaluation.yaml`.
        files: of `python -m neuro_ssl.embed`.
        projections: keys of `projections.PROJECTIONS`; None: all that are installed.

    Raises:
        InputError: a file that is none of `embed`, or a projection that is none or not installed.
    """
    kinds = choose(projections)
    sets = [*of_evaluations(results), *of_files(files)]
    if not sets:
        return []
    n_points = sum(len(one.scans) * len(one.encoders) * len(colourings(one.scans)) * len(kinds) for one in sets)
    clouds = [_cloud(one, kinds, n_points <= MAX_POINTED) for one in sets]
    content = {"clouds": clouds, "umap_extra": "" if projections or "umap" in kinds else UMAP_EXTRA}
    return [
        Section(
            "embeddings",
            "Embeddings",
            content,
            [panel for cloud in clouds for panel in cloud.panels],
            links=[(cloud.id, cloud.title) for cloud in clouds] if len(clouds) > 1 else [],
            warnings=list(dict.fromkeys(line for one in sets for line in one.warnings)),
            simulated=[one.cohort for one in sets if one.simulated],
            real=[one.cohort for one in sets if not one.simulated],
            sources=[f"{len(files)} file{'s' if len(files) > 1 else ''} of features"] if files else [],
        )
    ]


def _cloud(scan_set: ScanSet, kinds: Sequence[str], pointed: bool) -> Cloud:
    scans, n = scan_set.scans, len(scan_set.scans)
    title = f"Cohort {scan_set.cohort}, {n} {'held-out ' if scan_set.held_out else ''}scans"
    about = f"{n} scans of {scans['subject_id'].nunique()} subjects"
    if scan_set.n_all > n:
        about += f", drawn at random (seed 0) from {scan_set.n_all}"
    panels = []
    for kind in kinds:
        if n < MIN_SCANS[kind]:
            about += f"; {n} are too few for {NAMES[kind]}"
            continue
        bar = progress_bar(iterable=scan_set.encoders, desc=NAMES[kind], unit="encoder", delay=5)
        found = [PROJECTIONS[kind](encoded.features) for encoded in bar]
        for first in range(0, len(found), MAX_ROWS):
            rows = slice(first, first + MAX_ROWS)
            panels.append(embedding(scan_set, kind, scan_set.encoders[rows], found[rows], pointed=pointed))
    return Cloud(file_name("embeddings of", title), title, f"{about}.", panels, scan_set.held_out)
