"""What is shown of a run: every metric and reason, in the promised order, absent values as absent."""

from __future__ import annotations

from bench.nouns.measurement import METRICS, Measurement, measured
from bench.nouns.run import Result, Run
from reports import content
from reports.content import Report, Table, report
from reports.sentence import Line


def table(shown: Report, start: str) -> Table:
    return next(table for table in shown.tables if table.title.startswith(start))


def row(shown: Table, label: str) -> dict[str, str]:
    cells = next(row.cells for row in shown.rows if row.label == label)
    return dict(zip((header.text for header in shown.headers), cells, strict=True))


def section(shown: Report, title: str) -> list[str]:
    return [text(line) for part in shown.sections if part.title == title for line in part.lines]


def text(line: Line) -> str:
    return "".join(line)


def changed(run: Run, variant: str, **update: object) -> Run:
    results = [r.model_copy(update=update) if r.variant == variant else r for r in run.results]
    return run.model_copy(update={"results": results})


def test_every_catalogued_metric_has_a_column() -> None:
    grouped = {name for group in content.GROUPS for name in group.names}
    assert set(METRICS) <= grouped
    assert set(METRICS) <= set(content.SHOWN)


def test_dense_comes_first_and_the_rest_in_the_run_s_order(run: Run) -> None:
    labels = [row.label for row in report(run).tables[0].rows]
    assert run.results[0].variant != "dense"
    assert labels == [
        "dense",
        "bmp25 (c)",
        "★ bmp25+kd+mp",
        "mp",
        "bmp:amount=0.4,block=16+kd:layers=2",
        "onnx+int8 failed",
        "fisher50 skipped",
    ]


def test_headers_point_to_the_better_direction(run: Run) -> None:
    for shown in report(run).tables:
        for header in shown.headers:
            if header.text.startswith(("Accuracy, %", "Speedup", "Samples", "Pruned")):
                assert header.text.endswith("↑")
            if header.text.startswith(("One row", "Batch", "Host", "Weights", "Compress")):
                assert header.text.endswith("↓")


def test_every_table_names_the_budget(run: Run) -> None:
    assert all("(quick budget)" in shown.title for shown in report(run).tables)


def test_a_missing_value_is_a_dash_and_never_a_zero(run: Run) -> None:
    mp = run.result("mp")
    assert mp
    metrics = {name: value for name, value in mp.metrics.items() if name != "disk_size"}
    shown = table(report(changed(run, "mp", metrics=metrics)), "Memory")
    assert row(shown, "mp")["Weights on disk ↓"] == "–"
    assert row(shown, "dense")["Weights on disk ↓"] == "16.8 MB"


def test_a_column_that_no_variant_fills_is_left_out(run: Run) -> None:
    headers = [header.text for header in table(report(run), "Memory").headers]
    assert headers == ["Host peak ↓", "Weights on disk ↓"]


def test_each_reason_for_absence_is_given_once(run: Run) -> None:
    assert section(report(run), "Not available") == [
        "latency p95 (all variants): 130 samples are needed and 64 were taken",
        "peak memory allocator, peak memory device (all variants): no CUDA device was used",
    ]


def test_a_reason_names_the_variants_it_holds_for(run: Run) -> None:
    lacking = changed(run, "mp", unavailable={"throughput": "it crashed"})
    assert "throughput (mp): it crashed" in section(report(lacking), "Not available")


def test_failed_and_skipped_variants_keep_their_reason(run: Run) -> None:
    reasons = section(report(run), "Failed or skipped")
    assert reasons[0].startswith("onnx+int8 failed: RuntimeError: out of memory")
    assert reasons[1] == "fisher50 skipped: fisher cannot prune DebertaV2 (deberta-v2)"


def test_the_headline_judges_on_test_and_not_on_validation(run: Run) -> None:
    shown = report(run)
    assert row(shown.tables[0], "bmp25 (c)")["Δ pts ↑"] == "+0.1"
    assert row(table(shown, "Accuracy in"), "bmp25 (c)")["Validation Δ pts ↑"] == "+0.2 ± 0.6"


def test_rows_needed_appear_where_the_rows_were_too_few(run: Run) -> None:
    mp = run.result("mp")
    assert mp
    verdict = mp.accuracy_kept["test"].model_copy(update={"word": "underpowered", "rows_needed": 3092})
    shown = table(report(changed(run, "mp", accuracy_kept={"test": verdict})), "Accuracy in")
    assert row(shown, "mp")["Rows needed to tell"] == "3,092"


def test_only_estimates_are_marked_and_the_mark_is_explained_where_it_stands(run: Run) -> None:
    cost = table(report(run), "Cost, CO2 for IND at 713.44 g/kWh")
    cells = row(cost, "dense")
    assert cells["Compress energy ↓"] == "~3.41 kJ"
    assert cells["Compress time ↓"] == "1.57 min"
    assert sum("~ estimated" in text(note) for note in cost.notes) == 1
    explained = [note for shown in report(run).tables for note in shown.notes if "~" in text(note)]
    assert len(explained) == 1


def test_an_unconverged_ratio_is_marked_and_converged_ones_are_not(run: Run) -> None:
    speed = report(run).tables[0]
    assert row(speed, "mp")["Speedup over dense ↑"] == "0.87 ± 0.04*"
    assert row(speed, "bmp25 (c)")["Speedup over dense ↑"] == "1.31 ± 0.06"


def test_the_mark_follows_the_scenario_the_value_came_from(run: Run) -> None:
    mp = run.result("mp")
    assert mp
    own = mp.scenarios["batch 32"].model_copy(update={"converged": True})
    other = mp.scenarios["batch 1"]
    moved = other.metrics | {"speedup": measured("speedup", 0.5, "test")}
    scenarios = {"batch 32": own, "batch 1": other.model_copy(update={"metrics": moved})}
    speed = report(changed(run, "mp", scenarios=scenarios)).tables[0]
    assert row(speed, "mp")["Speedup over dense ↑"] == "0.87 ± 0.04"


def test_seeds_are_named_only_where_there_are_several(run: Run) -> None:
    assert not any("seed" in row.label for row in report(run).tables[0].rows)
    second = [result.model_copy(update={"seed": 2}) for result in run.results]
    labels = [
        row.label for row in report(run.model_copy(update={"results": run.results + second})).tables[0].rows
    ]
    assert labels[:2] == ["dense (seed 1)", "dense (seed 2)"]
    assert "bmp25 (seed 2) (c)" in labels


def test_each_scenario_has_a_table_with_rounds_and_convergence(run: Run) -> None:
    single = table(report(run), "Scenario batch 1: padded to the longest of the batch, arrival order")
    cells = row(single, "mp")
    assert (cells["Rounds"], cells["Converged?"]) == ("200", "no")
    assert cells["Tokens per second ↑"] == "11.5 k*"
    assert section(report(run), "Stopped before converging")[2].startswith("mp, scenario batch 32, after 200")


def test_what_was_measured_in_no_rounds_has_none_to_show(run: Run) -> None:
    shown = table(report(run), "Scenario tokenising, batch size 7597: no padding")
    assert [header.text for header in shown.headers] == ["Tokenising rate, samples/s ↑"]


def test_dense_over_itself_is_exact_and_never_late(run: Run) -> None:
    cells = row(report(run).tables[0], "dense")
    assert (cells["Speedup over dense ↑"], cells["At same precision ↑"]) == ("1.00", "1.00")


def test_essentials_leave_out_details_and_nothing_else(run: Run) -> None:
    full = report(run)
    short = content.essentials(full)
    assert {t.title for t in full.tables} - {t.title for t in short.tables} == {
        t.title for t in full.tables if t.title.startswith("Scenario")
    }
    assert {s.title for s in full.sections} - {s.title for s in short.sections} == {
        "Accuracy not shown to be kept",
        "Stopped before converging",
        "Notes on single variants",
    }
    assert {f.name for f in full.facts} - {f.name for f in short.facts} == {"Machine", "Libraries"}
    assert short.tables[0] == full.tables[0]
    assert row(table(short, "Accuracy in"), "mp") == {
        "Macro-F1, % ↑": "89.4 ± 0.9",
        "Validation Δ pts ↑": "−0.6 ± 0.6",
    }
    assert row(table(full, "Accuracy in"), "mp")["Test Δ pts ↑"] == "−0.7 ± 0.6"


def test_a_metric_outside_the_catalogue_is_shown_too(run: Run) -> None:
    flips = Measurement(value=0.0312, unit="1", better="lower", source="predictions")
    tokenise = Measurement(value=51.2, unit="us", better="lower", source="clock")
    shown = table(report(changed(run, "mp", metrics={"flip_rate": flips, "tokenise": tokenise})), "Other")
    assert row(shown, "mp") == {"Flip rate ↓": "0.0312", "Tokenise, us ↓": "51.2"}


def test_facts_name_what_a_reader_must_not_overlook(run: Run) -> None:
    facts = {fact.name: fact.text for fact in report(run).facts}
    assert "Status" not in facts
    assert "its figures say nothing about your model" in facts["Demonstration"]
    assert facts["Rows"] == "20,000 train, 3,000 validation, 7,597 test; 4 labels"
    assert facts["Dropped"] == "3 empty text"
    assert facts["Device"] == "cpu, Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz, 2 threads"
    assert facts["Libraries"] == "tokenizers 0.23.3, numpy 2.4.6"
    assert facts["Training"].startswith("variants 3 epochs at 3e-05, dense 1 epoch;")
    unfinished = report(run.model_copy(update={"status": "interrupted"}))
    interrupted = {fact.name: fact.text for fact in unfinished.facts}
    assert interrupted["Status"].startswith("interrupted")


def test_a_run_with_nothing_in_it_says_so(run: Run) -> None:
    shown = report(run.model_copy(update={"results": []}))
    assert shown.tables == ()
    assert text(shown.closing) == "No variant is recommended: no compressed variant was measured."


def test_a_run_in_which_everything_failed_lists_every_variant(run: Run) -> None:
    failed = [Result(variant=name, seed=1, status="failed", reason="no memory") for name in ("dense", "mp")]
    shown = report(run.model_copy(update={"results": failed}))
    assert [row.label for row in shown.tables[0].rows] == ["dense failed", "mp failed"]
    assert len(shown.tables) == 1
