"""`python -m neuro_ssl.report`: runs and evaluations as one self-contained page, with tables and figures beside it."""

from neuro_ssl.commands import entry_point
from neuro_ssl.errors import InputError
from neuro_ssl.schemas import ReportConfig


@entry_point("report")
def main(cfg: ReportConfig) -> None:
    """Write `report.html`, its tables and figures, and show the tables."""
    from datetime import datetime
    from pathlib import Path

    from neuro_ssl.evaluating.record import reopened
    from neuro_ssl.reporting.embeddings.section import embedding_sections
    from neuro_ssl.reporting.evaluations.reading import read_evaluations
    from neuro_ssl.reporting.evaluations.section import evaluation_section
    from neuro_ssl.reporting.explanations.section import explanation_sections
    from neuro_ssl.reporting.methods.section import methods_sections
    from neuro_ssl.reporting.page import LARGE_MB, PAGE, write
    from neuro_ssl.reporting.runs.reading import apart_from_evaluations, read_directories
    from neuro_ssl.reporting.runs.sections import run_sections
    from neuro_ssl.reporting.sources import find
    from neuro_ssl.reporting.sweeps.reading import all_sweeps, read_sweep
    from neuro_ssl.reporting.sweeps.section import sweep_sections

    if cfg.runs == [] and not cfg.embeddings:
        raise InputError("runs=[] and embeddings=[]: nothing to report; name some, or leave runs= out to show all")
    found = find(Path(cfg.runs_dir), cfg.runs)
    everything = read_directories(found.runs)
    runs, elsewhere = apart_from_evaluations(everything, found.named) if found.evaluations else (everything, [])
    sections = run_sections(runs, elsewhere)
    sections += sweep_sections(all_sweeps(found.sweeps) if cfg.runs is None else [read_sweep(f) for f in found.sweeps])
    evaluations = read_evaluations(found.evaluations, every=cfg.runs is not None)
    sections += evaluation_section(evaluations)
    sections += embedding_sections(found.evaluations, cfg.embeddings, cfg.projections)
    sections += explanation_sections(found.explanations)
    sections += methods_sections(runs, evaluations.finished, sections)
    output = Path(cfg.output)
    judged = [Path(cfg.runs_dir)] if cfg.runs is None else sorted({path.parent for path in found.evaluations})
    warnings = [line for folder in judged for line in reopened(folder)]
    write(output, sections, datetime.now().astimezone(), cfg.figures, warnings)

    tables = [text for section in sections for name, text in section.files.items() if name in section.printed]
    for text in tables:
        print(text)
    for line in warnings + [line for section in sections for line in section.warnings]:
        if not any(line in text for text in tables):
            print(line.partition("\n")[0])
    if (size_mb := (output / PAGE).stat().st_size / 1e6) > LARGE_MB:
        print(f"{PAGE} has {size_mb:.0f} MB, more than many mail servers take; runs= makes pages of fewer runs")
    print(f"report: {output / PAGE}")


if __name__ == "__main__":
    main()
