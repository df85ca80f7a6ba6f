"""What only looks wrong must work: names with spaces and accents, tables as spreadsheets write them."""

import shlex

import pandas as pd

from neuro_ssl.data.store import VolumeStore


def test_spaces_and_accents_in_every_name(heads, command, tmp_path, capsys):
    root = heads.root.rename(tmp_path / "Köpfe – große Studie (2024)")
    table = pd.read_csv(root / "scans.csv", dtype=str)
    for name in ("image_path", "mask_path"):
        for file in table[name]:
            (root / file).rename(root / f"é {file}")
        table[name] = "é " + table[name]
    table = table.rename(columns={"subject_id": "Probandën nr", "age_years": "Alter, Jahre"})
    table["Probandën nr"] = ["Zoë", "Søren", "Łukasz", "日本"]
    table.to_csv(root / "Tabelle für alle.csv", index=False, encoding="utf-8-sig")
    data, runs = tmp_path / "mes données", tmp_path / "läufe und mehr"
    where = ["dataset=csv", "grid=16mm", f"data_dir='{data}'"]
    command(
        "preprocess", *where, "n_jobs=1", "bias_correction=false", "registration=centre",
        "dataset.cohort='köpfe'", f"dataset.root='{root}'",
        "dataset.table='Tabelle für alle.csv'",
        "dataset.columns={subject_id: 'Probandën nr', age_years: 'Alter, Jahre'}",
    )  # fmt: skip
    out = capsys.readouterr().out
    assert "4 volumes made" in out
    next_command = shlex.split(out.partition("next: ")[2])
    store = VolumeStore.find(data / "stores/köpfe", "16mm")
    assert sorted(store.manifest["subject_id"]) == sorted(
        f"köpfe/{name}" for name in ("Zoë", "Søren", "Łukasz", "日本")
    )
    assert (store.read(store.manifest["volume"][0]) > 0).any()

    tiny = ["strategy=cpu", "num_workers=0", "batch_size=2", "trainer.max_epochs=1", "logger=csv", "encoder.width=8"]
    assert next_command[:3] == ["python", "-m", "neuro_ssl.train"]
    command("train", *next_command[3:], f"runs_dir='{runs}'", *tiny)
    command("train", "+experiment=from_scratch", *where, "dataset.cohort='köpfe'", f"runs_dir='{runs}'", *tiny)
    command("report", f"runs_dir='{runs}'")
    out = capsys.readouterr().out
    assert out.count("finished: ") == 2 and f"report: {runs}/report/report.html" in out


def test_carriage_returns_blanks_and_capital_suffixes(heads, command, capsys):
    text = heads.table.read_text().replace(",", " , ").replace("\n", "\r\n")
    heads.table.unlink()
    (heads.root / "SCANS.CSV").write_bytes(text.encode())
    command("preprocess", *heads.arguments, "dataset.table=SCANS.CSV")
    assert "0 volumes made, 4 were there already" in capsys.readouterr().out
