"""`python -m neuro_ssl.report`: every run below `runs_dir`, as one table and one self-contained page."""

from neuro_ssl.config import entry_point
from neuro_ssl.schemas import ReportConfig


@entry_point("report")
def main(cfg: ReportConfig) -> None:
    """Write `report.html`, `results.csv` and `results.md`, and show the table."""
    from contextlib import ExitStack
    from datetime import datetime
    from pathlib import Path

    from neuro_ssl.evaluating.record import reopened
    from neuro_ssl.files import appearing
    from neuro_ssl.reporting.page import render
    from neuro_ssl.reporting.runs import NOT_OPENED, read_runs
    from neuro_ssl.reporting.tables import group_by_task, markdown, tidy_results

    runs = read_runs(Path(cfg.runs_dir), cfg.runs)
    groups = group_by_task(runs.downstream)
    evaluations = reopened(Path(cfg.runs_dir))
    page = render(runs, groups, datetime.now().astimezone(), evaluations)
    output = Path(cfg.output)
    table = markdown(groups) + "".join(f"\n{line}\n" for line in evaluations)
    with ExitStack() as stack:  # all three are written before one takes its place
        csv, md, html = (
            stack.enter_context(appearing(output / name)) for name in ("results.csv", "results.md", "report.html")
        )
        tidy_results(groups).to_csv(csv, index=False)
        md.write_text(table, encoding="utf-8")
        html.write_text(page, encoding="utf-8")

    print(table)
    for run in runs.unfinished:
        what = "left out" if run.reason == NOT_OPENED else "unfinished, left out"
        print(f"{what}: {run.name} ({run.reason})")
    print(f"report: {output / 'report.html'}")


if __name__ == "__main__":
    main()
