"""Is what was planted found in the images? Measured with plain thresholds, compared with the simulator's own numbers.

    python experiments/simulated_cohort/effects.py WORK [--effects teaching|realistic] [--subjects 120] [--n-jobs 2]

WORK keeps the cohort (BIDS) and its measurements; the figures go beside this file with --figures.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from figures import draw_anatomy, draw_curves
from joblib import Parallel, delayed
from measure import measure
from scipy import stats

from neuro_ssl.simulation import simulate_cohort
from neuro_ssl.simulation.bids import scan_names
from neuro_ssl.simulation.cohort import plan_cohort
from neuro_ssl.simulation.effects import TEACHING, RealisticEffects
from neuro_ssl.simulation.phenotype import phenotype
from neuro_ssl.simulation.scanner import Scanner, scanner_name

SETS = {"teaching": TEACHING, "realistic": RealisticEffects()}
PLAN = {
    "seed": 0,
    "n_sites": 3,
    "scanners_per_site": 2,
    "field_strengths": (1.5, 3.0),
    "follow_up_fraction": 0.3,
    "n_follow_ups": 2,
    "retest_fraction": 0.3,
    "alzheimers_fraction": 0.2,
    "stroke_fraction": 0.2,
    "age_range": (20.0, 90.0),
}


def scans_of(work, effects, n_subjects, spacing_mm, n_jobs):
    """One row a scan: who, what was planted, what was measured."""
    simulate_cohort(work, n_subjects, spacing_mm=spacing_mm, effects=effects, n_jobs=n_jobs, **PLAN)
    rows, names = [], []
    for subject in plan_cohort(n_subjects, **PLAN):
        for number, session in enumerate(subject.sessions):
            traits, scanner = phenotype(subject, number, effects), Scanner.of(session, subject.seed, effects)
            rows.append(
                {
                    "subject": subject.index,
                    "diagnosis": subject.diagnosis,
                    "sex": subject.sex,
                    "nihss": subject.nihss,
                    "age": session.age_years,
                    "visit": session.visit,
                    "days": session.days,
                    "site": session.site,
                    "scanner": scanner_name(session),
                    "field": session.field_tesla,
                    "planted_ventricle_mm": traits.ventricle_mm,
                    "planted_cortex_mm": traits.cortex_mm,
                    "planted_hippocampus": traits.hippocampus_shrinkage,
                    "planted_head_ml": traits.head_scale**3,
                    "planted_lesion_ml": traits.lesion_ml,
                    "planted_noise": scanner.noise,
                    "planted_grey": scanner.gm,
                    "planted_csf": scanner.csf,
                }
            )
            names.append([str(work / name) for name in scan_names(subject, number)])
    found = Parallel(n_jobs)(delayed(measure)(*paths) for paths in names)
    return pd.concat([pd.DataFrame(rows), pd.DataFrame(found)], axis=1)


def interval(statistic, *samples, seed=0):
    """A 95 % bootstrap interval of a statistic of paired samples (rows are drawn)."""
    found = stats.bootstrap(
        samples, statistic, paired=True, vectorized=False, n_resamples=999, method="percentile", rng=seed
    ).confidence_interval
    return f"[{found.low:.2f}, {found.high:.2f}]"


def rank_correlation(a, b):
    return stats.spearmanr(a, b).statistic


def report(scans):
    """Lines of a Markdown table: effect, planted, measured."""
    first = scans[scans["visit"] == "baseline"]
    healthy = first[first["diagnosis"] == "CN"]
    lines = ["| effect | planted | measured |", "|---|---|---|"]

    def line(effect, planted, measured):
        lines.append(f"| {effect} | {planted} | {measured} |")

    def correlated(effect, table, planted, measured):
        r = rank_correlation(table[planted], table[measured])
        line(effect, "rank correlation 1", f"{r:.2f} {interval(rank_correlation, table[planted], table[measured])}")

    # Per template volume: a large head has large ventricles.
    relative = healthy.assign(ventricles=healthy["ventricles_ml"] / healthy["brain_ml"] * 1500)
    fit = np.polynomial.Polynomial.fit(relative["age"], relative["ventricles"], 2)
    line("ventricles at 30, 55, 80 years, ml per 1.5 l", "–", ", ".join(f"{fit(age):.0f}" for age in (30, 55, 80)))
    correlated("ventricle ml and planted wall shift", relative, "planted_ventricle_mm", "ventricles")
    tissue = healthy.assign(share=healthy["tissue_ml"] / healthy["brain_ml"])
    fit = np.polynomial.Polynomial.fit(tissue["age"], tissue["share"], 2)
    loss = [100 * (fit(b) / fit(a) - 1) for a, b in ((30, 55), (55, 80))]
    line("tissue, share of the mask: change 30–55, 55–80", "–", f"{loss[0]:.1f} %, {loss[1]:.1f} %")
    correlated("tissue share and planted sulcal depth (less is more)", tissue, "planted_cortex_mm", "share")
    log_ml, planted = np.log(first["brain_ml"]), np.log(first["planted_head_ml"])
    men = first["sex"] == "M"

    def difference(values, is_man):
        return values[is_man.astype(bool)].mean() - values[~is_man.astype(bool)].mean()

    line(
        "log brain mask volume, men − women",
        f"{difference(planted.to_numpy(), men.to_numpy()):.3f} (in these subjects)",
        f"{difference(log_ml.to_numpy(), men.to_numpy()):.3f} "
        f"{interval(difference, log_ml.to_numpy(), men.to_numpy().astype(float))}",
    )

    old = first[(first["age"] >= 55) & (first["diagnosis"] != "stroke")]
    slope = stats.linregress(old["age"][old["diagnosis"] == "CN"], old["medial_temporal"][old["diagnosis"] == "CN"])
    residual = (old["medial_temporal"] - slope.slope * (old["age"] - 72)).to_numpy()
    ill = (old["diagnosis"] == "AD").to_numpy()
    line(
        "medial temporal tissue at 72, healthy and AD",
        f"hippocampus {100 * old['planted_hippocampus'][ill].mean():.0f} % thinner",
        f"{residual[~ill].mean():.2f}, {residual[ill].mean():.2f} of the region; d "
        f"{_cohens_d(residual[~ill], residual[ill]):.1f}, AUROC {_auroc(residual[~ill], residual[ill]):.2f}",
    )
    line("change of medial temporal tissue a year, healthy and AD", "–", _progression(scans))

    stroke = first[first["diagnosis"] == "stroke"]
    r = stats.pearsonr(np.log(stroke["planted_lesion_ml"]), np.log(stroke["lesion_ml"] + 0.5)).statistic
    line("lesion ml, log, planted and measured", "correlation 1", f"{r:.2f}")
    for a, name in (("planted_lesion_ml", "planted"), ("lesion_ml", "measured")):
        r, ci = rank_correlation(stroke["nihss"], stroke[a]), interval(rank_correlation, stroke["nihss"], stroke[a])
        line(f"lesion ml, {name}, and NIHSS", "–", f"{r:.2f} {ci}")
    line("largest asymmetry without stroke, median", "0", f"{healthy['lesion_ml'].median():.1f} ml")

    line("noise, by scanner", "correlation 1", _by_scanner(scans, "noise"))
    line("grey matter / white matter, by scanner", "correlation 1", _by_scanner(scans, "grey"))
    by_field = scans.groupby("field")[["planted_noise", "noise"]].mean()
    line(
        "noise at 3 T / at 1.5 T",
        f"{by_field['planted_noise'][3.0] / by_field['planted_noise'][1.5]:.2f}",
        f"{by_field['noise'][3.0] / by_field['noise'][1.5]:.2f}",
    )
    return [*lines, "", *_reliability(scans)]


def _cohens_d(a, b):
    return (a.mean() - b.mean()) / np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)


def _auroc(larger, smaller):
    return stats.mannwhitneyu(larger, smaller).statistic / (len(larger) * len(smaller))


def _progression(scans):
    """Per year, from the first to the last session."""
    rates = {"CN": [], "AD": []}
    for _, own in scans[(scans["visit"] != "retest") & (scans["diagnosis"] != "stroke")].groupby("subject"):
        if len(own) > 1 and own["age"].iloc[0] >= 55:
            change = own["medial_temporal"].iloc[-1] / own["medial_temporal"].iloc[0] - 1
            rates[own["diagnosis"].iloc[0]].append(100 * change / (own["age"].iloc[-1] - own["age"].iloc[0]))
    return ", ".join(f"{np.mean(own):.2f} % (n = {len(own)})" for own in rates.values())


def _by_scanner(scans, name):
    table = scans.groupby("scanner")[[f"planted_{name}", name]].mean()
    return f"{stats.pearsonr(table[f'planted_{name}'], table[name]).statistic:.2f} ({len(table)} scanners)"


def _reliability(scans):
    """Test–retest: spread within subjects against that between, and ICC(1,1) (Shrout and Fleiss 1979)."""
    lines = ["| ICC of | same scanner | other scanner, same site | other site |", "|---|---|---|---|"]
    pairs = {"same": [], "scanner": [], "site": []}
    for _, own in scans.groupby("subject"):
        retest = own[own["visit"] == "retest"]
        if len(retest):
            a, b = own.iloc[0], retest.iloc[0]
            kind = "site" if a["site"] != b["site"] else "scanner" if a["scanner"] != b["scanner"] else "same"
            pairs[kind].append((a, b))
    for name in ("brain_ml", "tissue_ml", "ventricles_ml", "medial_temporal"):
        cells = []
        for own in pairs.values():
            values = np.array([[a[name], b[name]] for a, b in own], dtype=float)
            between = 2 * values.mean(1).var(ddof=1)
            within = ((values[:, 0] - values[:, 1]) ** 2 / 2).mean()
            cells.append(f"{(between - within) / (between + within):.2f} (n = {len(own)})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main():
    """Make what is missing, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--effects", choices=SETS, nargs="+", default=list(SETS))
    parser.add_argument("--subjects", type=int, default=120)
    parser.add_argument("--spacing-mm", type=float, default=3.0)
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--figures", action="store_true", help="draw anatomy.jpg and effects.png beside this file")
    args = parser.parse_args()
    tables = {}
    for name in args.effects:
        scans = scans_of(args.work / name, SETS[name], args.subjects, args.spacing_mm, args.n_jobs)
        scans.to_csv(args.work / f"{name}.csv", index=False)
        print(f"\n{name}: {len(scans)} scans of {args.subjects} subjects\n")
        print("\n".join(report(scans)), flush=True)
        tables[name] = scans
    if args.figures:
        draw_curves(tables, Path(__file__).with_name("effects.png"))
        draw_anatomy({name: SETS[name] for name in args.effects}, Path(__file__).with_name("anatomy.jpg"))


if __name__ == "__main__":
    main()
