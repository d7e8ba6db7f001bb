"""What is shown of a run: every metric and reason, in the promised order, absent values as absent."""

from __future__ import annotations

import pytest

from bench.nouns.audit import DataAudit, SplitAudit
from bench.nouns.environment import NoiseFloor
from bench.nouns.measurement import METRICS, Measurement, measured
from bench.nouns.run import Failure, Result, Run
from reports import content
from reports.columns import SHOWN
from reports.content import report
from reports.parts import Line, Report, Table
from reports.sections import BY_CLASS
from reports.tables import GROUPS


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
    grouped = {name for group in GROUPS for name in group.names}
    assert set(METRICS) <= grouped
    assert set(METRICS) <= set(SHOWN)


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
        if shown.title.startswith("Where"):
            continue
        for header in shown.headers:
            if header.text.startswith(("Accuracy, %", "Speedup", "Samples", "Pruned")):
                assert header.text.endswith("↑")
            if header.text.startswith(("One row", "Batch", "Host", "Weights", "Compress")):
                assert header.text.endswith("↓")


def test_every_table_names_the_budget(run: Run) -> None:
    *measured_tables, data = report(run).tables
    assert all("(quick budget)" in shown.title for shown in measured_tables)
    assert data.title == "Data"


def test_a_missing_value_is_a_dash_and_never_a_zero(run: Run) -> None:
    mp = run.result("mp")
    assert mp
    metrics = {name: value for name, value in mp.metrics.items() if name != "disk_size"}
    shown = table(report(changed(run, "mp", metrics=metrics)), "Memory")
    assert row(shown, "mp")["Weights on disk ↓"] == "–"
    assert row(shown, "dense")["Weights on disk ↓"] == "16.8 MB"


def test_a_column_that_no_variant_fills_is_left_out(run: Run) -> None:
    headers = [header.text for header in table(report(run), "Memory").headers]
    assert headers == ["Host peak ↓", "Weights on disk ↓", "Loads with"]


def test_each_reason_for_absence_is_given_once(run: Run) -> None:
    assert section(report(run), "Not available") == [
        "latency p95 (all variants): 130 samples are needed and 64 were taken",
        "peak memory allocator, peak memory device (all variants): no CUDA device was used",
        "training speedup (mp): nothing is trained",
    ]


def test_what_loads_an_artifact_is_told_and_absent_where_it_is_not_known(run: Run) -> None:
    shown = table(report(changed(run, "mp", loads_with=None)), "Memory")
    cells = {label: row(shown, label)["Loads with"] for label in ("dense", "bmp25 (c)", "mp")}
    assert cells == {"dense": "transformers", "bmp25 (c)": "pruned.py", "mp": "–"}
    unknown = run.model_copy(
        update={"results": [result.model_copy(update={"loads_with": None}) for result in run.results]}
    )
    shown = table(report(unknown), "Memory")
    assert "Loads with" not in [header.text for header in shown.headers]
    assert shown.notes == ()


def test_a_training_speedup_tells_what_it_compares(run: Run) -> None:
    shown = table(report(run), "Throughput")
    assert row(shown, "bmp25 (c)")["Training speedup ↑"] == "1.33"
    assert row(shown, "mp")["Training speedup ↑"] == "–"
    [note] = [text(note) for note in shown.notes if "training" in text(note)]
    assert "a step of dense's training" in note
    assert "not paired" in note
    lacking = [
        result.model_copy(update={"metrics": {"throughput": result.metrics["throughput"]}})
        for result in run.results
        if result.status == "ok"
    ]
    shown = table(report(run.model_copy(update={"results": lacking})), "Throughput")
    assert not [note for note in shown.notes if "training" in text(note)]


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        ("bmp50+kd", True),
        ("bmp75+kd:layers=all+mp", True),
        ("bmp25+kd", False),
        ("bmp75", False),
        ("kd", False),
        ("bmp50+kd:student=org/small", False),
    ],
)
def test_where_dense_runs_in_every_training_step_is_told(sixteen: Run, variant: str, said: bool) -> None:
    plain = variant.replace(":layers=all", "").replace(":student=org/small", "")
    [trained] = [result for result in sixteen.results if result.variant == plain]
    results = [sixteen.results[0], trained.model_copy(update={"variant": variant})]
    shown = report(sixteen.model_copy(update={"results": results}))
    notes = [text(note) for table in shown.tables for note in table.notes]
    assert any("dense runs in every step" in note for note in notes) == said


def test_a_reason_names_the_variants_it_holds_for(run: Run) -> None:
    lacking = changed(run, "mp", unavailable={"throughput": "it crashed"})
    assert "throughput (mp): it crashed" in section(report(lacking), "Not available")


def test_failed_and_skipped_variants_keep_their_reason(run: Run) -> None:
    reasons = section(report(run), "Failed or skipped")
    assert reasons[0].startswith("onnx+int8 failed: RuntimeError: out of memory")
    assert reasons[1] == "fisher50 skipped: fisher cannot prune DebertaV2 (deberta-v2)"


def test_what_a_failed_step_logged_last_is_a_detail(run: Run) -> None:
    failure = Failure(kind="crashed", step="timing", log=["loading", "Segmentation fault"])
    [logged] = section(report(changed(run, "onnx+int8", failure=failure)), "Last lines that were logged")
    assert logged == "onnx+int8, timing: loading | Segmentation fault"


def test_a_batch_size_of_its_own_is_part_of_a_row_s_name(run: Run) -> None:
    halved = report(changed(run, "mp", batch_size=16))
    assert "mp (batch 16)" in [each.label for each in halved.tables[0].rows]


def test_a_headline_of_a_halved_batch_that_did_not_converge_is_marked(run: Run) -> None:
    original = run.result("mp")
    assert original is not None
    for converged in (True, False):
        headline = original.scenarios["batch 32"].model_copy(update={"converged": converged})
        halved = report(changed(run, "mp", batch_size=16, scenarios={"batch 16": headline}))
        shown = row(halved.tables[0], "mp (batch 16)")["Speedup over dense ↑"]
        assert shown.endswith("*") != converged


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
    assert mp.scenarios["batch 1"].metrics["speedup"].value == mp.metrics["speedup"].value
    own = mp.scenarios["batch 32"].model_copy(update={"converged": True})
    shown = report(changed(run, "mp", scenarios=mp.scenarios | {"batch 32": own}))
    assert row(shown.tables[0], "mp")["Speedup over dense ↑"] == "0.87 ± 0.04"
    assert row(table(shown, "Scenario batch 32 ("), "mp")["Speedup over dense ↑"] == "0.87 ± 0.04"
    assert row(table(shown, "Scenario batch 1 ("), "mp")["Speedup over dense ↑"] == "0.87 ± 0.04*"


def test_a_scenario_without_figures_says_why_and_leaves_the_others_alone(slowed: Run, run: Run) -> None:
    full = report(slowed)
    speed = row(full.tables[0], "mp")
    assert (speed["Speedup over dense ↑"], speed["Faster?"]) == ("–", "not comparable")
    assert speed["Accuracy, % ↑"] == row(report(run).tables[0], "mp")["Accuracy, % ↑"]
    cells = row(table(full, "Scenario batch 32 ("), "mp")
    assert (cells["Rounds"], cells["Discarded"], cells["Throttled?"]) == ("0", "4", "yes")
    assert (cells["Converged?"], cells["Samples per second ↑"], cells["Faster?"]) == ("no", "–", "–")
    assert table(full, "Scenario batch 1 (") == table(report(run), "Scenario batch 1 (")
    reason = "gave up after 4 rounds, 4 of them discarded"
    assert f"throughput, speedup, speedup same precision (mp): {reason}" in section(full, "Not available")
    assert f"mp, scenario batch 32: {reason}" in section(full, "Stopped before converging")
    assert f"mp not comparable: {reason}" in section(full, "Speed verdicts")
    assert section(full, "Throttled") == [
        "mp, scenario batch 32: 4 of 4 rounds are left out: hardware slowdown (4)"
    ]


def test_seeds_are_named_only_where_there_are_several(run: Run) -> None:
    assert not any("seed" in row.label for row in report(run).tables[0].rows)
    second = [result.model_copy(update={"seed": 2}) for result in run.results]
    labels = [
        row.label for row in report(run.model_copy(update={"results": run.results + second})).tables[0].rows
    ]
    assert labels[:2] == ["dense (seed 1)", "dense (seed 2)"]
    assert "bmp25 (seed 2) (c)" in labels


def test_each_scenario_has_a_table_with_rounds_and_convergence(run: Run) -> None:
    single = table(report(run), "Scenario batch 1 (")
    assert single.notes == (("padding: longest of the batch, arrival order",),)
    cells = row(single, "mp")
    assert (cells["Rounds"], cells["Converged?"]) == ("200", "no")
    assert cells["Tokens per second ↑"] == "11.5 k*"
    assert "mp, scenario batch 1: 200 rounds reached at a half-width of 4.1 %" in section(
        report(run), "Stopped before converging"
    )


def test_what_was_measured_in_no_rounds_has_none_to_show(run: Run) -> None:
    shown = table(report(run), "Scenario tokenising, batch size 7597 (")
    assert [header.text for header in shown.headers] == ["Tokenising rate, samples/s ↑"]


def test_dense_over_itself_is_exact_and_never_late(run: Run) -> None:
    assert row(report(run).tables[0], "dense")["Speedup over dense ↑"] == "1.00"
    throughput = row(table(report(run), "Throughput"), "dense")
    assert throughput["At same precision ↑"] == "1.00"
    assert throughput["Samples per second ↑"] == "742*"


def test_essentials_leave_out_details_and_nothing_else(run: Run) -> None:
    full = report(run)
    short = content.essentials(full)
    assert {t.title for t in full.tables} - {t.title for t in short.tables} == {
        t.title for t in full.tables if t.title.startswith(("Scenario", "Where", "Data"))
    }
    assert {s.title for s in full.sections} - {s.title for s in short.sections} == {
        "Accuracy not shown to be kept",
        "Speed verdicts",
        BY_CLASS,
        "Not steady after warming up",
        "Details not available",
        "Stopped before converging",
        "Notes on single variants",
    }
    assert {f.name for f in full.facts} - {f.name for f in short.facts} == {"Machine", "Libraries"}
    assert short.tables[0] == full.tables[0]
    assert row(table(short, "Accuracy in"), "mp") == {
        "Macro-F1, % ↑": "89.4 ± 0.9",
        "Validation Δ pts ↑": "−0.6 ± 0.6",
        "Labels changed": "1.99 %",
    }
    assert row(table(full, "Accuracy in"), "mp")["Test Δ pts ↑"] == "−0.7 ± 0.6"


def test_a_metric_outside_the_catalogue_is_shown_too(run: Run) -> None:
    gap = Measurement(value=0.0312, unit="1", better="lower", source="predictions")
    tokenise = Measurement(value=51.2, unit="us", better="lower", source="clock")
    shown = table(report(changed(run, "mp", metrics={"gap": gap, "tokenise": tokenise})), "Other")
    assert row(shown, "mp") == {"Gap ↓": "0.0312", "Tokenise, us ↓": "51.2"}


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
    assert [shown.title for shown in shown.tables] == ["Data"]
    assert text(shown.closing) == "No variant is recommended: no compressed variant was measured."


def test_a_run_in_which_everything_failed_lists_every_variant(run: Run) -> None:
    failed = [Result(variant=name, seed=1, status="failed", reason="no memory") for name in ("dense", "mp")]
    shown = report(run.model_copy(update={"results": failed}))
    assert [row.label for row in shown.tables[0].rows] == ["dense failed", "mp failed"]
    assert [shown.title for shown in shown.tables[1:]] == ["Data"]


def test_speed_is_judged_beside_the_speedup_and_the_margin_is_named(run: Run) -> None:
    first = report(run).tables[0]
    heads = [header.text for header in first.headers]
    assert heads.index("Faster?") == heads.index("Speedup over dense ↑") + 1
    assert row(first, "mp")["Faster?"] == "slower"
    assert row(table(report(run), "Throughput"), "mp")["Faster at same precision?"] == "inconclusive"
    assert any("beyond a factor of 1.02" in text(note) for note in first.notes)
    assert "mp inconclusive (same precision): 0.970 to 1.030, against a margin of 2%" in section(
        report(run), "Speed verdicts"
    )


def test_accuracy_is_given_on_all_test_rows_and_beside_it_on_unseen_ones(seeded: Run) -> None:
    shown = report(seeded)
    cells = row(shown.tables[0], "mp (seed 1)")
    assert list(cells)[:2] == ["Accuracy, % ↑", "Unseen rows, % ↑"]
    assert cells["Unseen rows, % ↑"] == "87.1 ± 0.9"
    detail = row(table(shown, "Accuracy in"), "mp (seed 1)")
    assert detail["Kept on unseen?"] == "inconclusive"
    assert detail["Unseen Δ pts ↑"] == "−0.4 ± 0.8"


def test_accuracy_in_detail_tells_what_changed(run: Run) -> None:
    detail = row(table(report(run), "Accuracy in"), "bmp:amount=0.4,block=16+kd:layers=2")
    assert detail["Bootstrap Δ pts"] == "−3.8 to −2.5"
    assert (detail["Rows gained"], detail["Rows lost"], detail["McNemar p"]) == ("36", "274", "< 0.001")


def test_a_class_that_lost_is_named_on_the_terminal_and_its_figures_in_the_report(run: Run) -> None:
    full = report(run)
    assert "mp: Business −2.0 points" in section(content.essentials(full), "Classes that lost accuracy")
    by_class = section(full, BY_CLASS)
    assert "mp: Business −2.0 points (47 lost and 9 gained of 1,899 rows, p < 0.001)" in by_class
    assert by_class[1].startswith(
        "bmp25+kd+mp: no class changed significantly; at worst Business −0.6 points"
    )
    assert by_class[1].count(" points (") == 3


def test_many_lost_classes_are_counted_on_the_terminal(run: Run) -> None:
    mp = run.result("mp")
    assert mp
    verdict = mp.accuracy_kept["test"]
    change = verdict.classes[2]
    many = [change.model_copy(update={"label": f"class {n}", "lost": 200 + n}) for n in range(5)]
    judged = {"test": verdict.model_copy(update={"classes": many})}
    lines = section(report(changed(run, "mp", accuracy_kept=judged)), "Classes that lost accuracy")
    assert "mp: class 4 −10.3, class 3 −10.2, class 2 −10.2 and 2 more points" in lines


def test_percentiles_are_shown_where_they_were_measured(run: Run) -> None:
    full = report(run)
    latency = row(table(full, "Latency"), "dense")
    assert (latency["One row p90 ↓"], latency["Load ↓"], latency["First batch ↓"]) == (
        "4.40 ms",
        "310 ms",
        "81.9 ms",
    )
    assert not any("p99" in head for head in latency)
    assert list(row(table(content.essentials(full), "Latency"), "dense")) == [
        "One row p50 ↓",
        "One row p95 ↓",
        "Batch p50 ↓",
    ]
    assert section(full, "Details not available")[0] == (
        "latency p99, latency b1 p99 (all variants): needs 662 requests, this budget times 130"
    )


def test_the_speedup_from_text_to_label_stands_beside_the_throughput(run: Run) -> None:
    cells = row(table(content.essentials(report(run)), "Throughput"), "mp")
    assert cells["End to end speedup ↑"] == "0.88 ± 0.04*"


def test_energy_is_net_and_says_of_what(run: Run) -> None:
    cost = table(report(run), "Cost")
    assert row(cost, "dense")["Energy per row gross ↓"] == "~61.2 mJ"
    assert "energy is net: the 12.5 W to 12.6 W drawn when nothing runs is not in it" in map(text, cost.notes)
    assert "Energy per row gross ↓" not in row(table(content.essentials(report(run)), "Cost"), "dense")


def test_an_audit_of_no_rows_that_counts_some_is_shown_without_shares(run: Run) -> None:
    """No run writes such a document; whoever edited one has it shown as it is."""
    odd = SplitAudit(rows=0, duplicates=3, conflicting=0, classes={"sport": 2})
    task = run.task.model_copy(update={"audit": DataAudit(splits={"test": odd})})
    [data] = [t for t in report(run.model_copy(update={"task": task})).tables if t.title == "Data"]
    assert data.rows[0].cells == ("0", "3", "0", "0", "sport: 2", "sport: 2")


def test_the_audit_of_the_rows_is_in_the_report(run: Run) -> None:
    data = table(report(run), "Data")
    assert data.first == "Split"
    assert row(data, "train") == {
        "Rows": "20,000",
        "Repeated": "37 (0.18 %)",
        "Conflicting labels": "8 (0.04 %)",
        "In the training file": "0",
        "Smallest class": "Sci/Tech: 3,800 (19 %)",
        "Largest class": "World: 6,200 (31 %)",
    }
    assert row(data, "test")["In the training file"] == "1,644 (22 %)"
    audit = run.task.audit.model_copy(update={"removed": {"train: repeated": 37, "train: text in test": 4}})
    cleaned = run.model_copy(
        update={
            "task": run.task.model_copy(update={"audit": audit}),
            "config": run.config.model_copy(update={"deduplicate": True}),
        }
    )
    data = table(report(cleaned), "Data, before --deduplicate")
    assert data.notes == (("removed: train: repeated, 37 rows; train: text in test, 4 rows",),)
    bare = run.task.model_copy(update={"audit": DataAudit()})
    assert not any(t.title == "Data" for t in report(run.model_copy(update={"task": bare})).tables)


def test_cut_rows_are_said_once_and_not_where_there_are_none(run: Run) -> None:
    def said(shown: Run) -> list[str]:
        return [fact.text for fact in report(shown).facts if fact.name == "Cut"]

    assert said(run) == ["3.2 % of the test rows, at 128 tokens; see --max-length"]
    none_cut = {"truncated_share": measured("truncated_share", 0.0, "count")}
    assert said(changed(run, "dense", metrics=none_cut)) == []


def test_a_floor_that_nobody_measured_here_says_so(run: Run) -> None:
    def said(floor: NoiseFloor) -> str:
        environment = run.environment.model_copy(update={"noise_floor": floor})
        facts = report(run.model_copy(update={"environment": environment})).facts
        return next(fact.text for fact in facts if fact.name == "Noise floor")

    assert run.environment.noise_floor
    assert said(run.environment.noise_floor) == (
        "paired 1.3 %, between runs 24 % (60 A/A trials of the quick budget, 2026-04-02)"
    )
    assert said(NoiseFloor(paired=0.05, between=0.25, source="starting values")) == (
        "paired 5 %, between runs 25 % (starting values)"
    )


def test_where_the_time_went_adds_up(run: Run) -> None:
    spent = table(report(run), "Where the time went")
    assert row(spent, "mp")["Timing"] == "36.5 s"
    assert row(spent, "dense")["Together"] == "49.4 s"
    assert row(spent, "mp")["Training"] == "1.57 min"
    assert row(spent, "bmp25 (c)")["Training"] == "–"
    assert spent.notes == (("steps taken over (c) are not counted here",), ("the whole run took 24.4 min",))


def test_what_the_machine_did_stands_beside_the_scenario_without_its_rounds(run: Run) -> None:
    cells = row(table(report(run), "Scenario batch 32, 1 thread ("), "mp")
    assert (cells["Threads"], cells["Faster?"]) == ("1", "slower")
    assert (cells["Taken by other guests"], cells["Halted by the quota"]) == ("4.13 %", "1.50 %")
    assert "Discarded" not in cells


@pytest.mark.parametrize(("throttled", "title"), [(True, "Throttled"), (False, "Discarded rounds")])
def test_rounds_that_were_left_out_are_counted_with_the_reasons(
    run: Run, throttled: bool, title: str
) -> None:
    mp = run.result("mp")
    assert mp
    scenario = mp.scenarios["batch 1"]
    assert scenario.raw
    raw = scenario.raw.model_copy(update={"discarded": {0: "power brake", 2: "too hot", 3: "too hot"}})
    disturbed = scenario.model_copy(update={"throttled": throttled, "raw": raw})
    full = report(changed(run, "mp", scenarios=mp.scenarios | {"batch 1": disturbed}))
    line = "mp, scenario batch 1: 3 of 4 rounds are left out: too hot (2), power brake (1)"
    assert section(full, title) == [line]
    assert (line in section(content.essentials(full), title)) == throttled
    cells = row(table(full, "Scenario batch 1 ("), "mp")
    assert cells["Discarded"] == "3"
    assert cells.get("Throttled?") == ("yes" if throttled else None)


def test_what_was_not_steady_is_said(run: Run) -> None:
    lines = section(report(run), "Not steady after warming up")
    assert [line.partition(":")[0] for line in lines] == ["dense", "mp"]
    assert "scenario batch 1, mp after 30.0 s" in lines[1]


def test_several_seeds_are_summed_up(seeded: Run, run: Run) -> None:
    over = table(report(seeded), "Over 2 seeds")
    assert row(over, "★ bmp25+kd+mp") == {
        "Mean accuracy, % ↑": "91.0",
        "Accuracy, %": "90.8 to 91.2",
        "Δ pts ↑": "−0.6 to −0.2",
        "Kept in": "1 of 2",
        "Speedup over dense ↑": "2.96 to 3.10",
        "Faster in": "2 of 2",
    }
    assert not any(shown.title.startswith("Over") for shown in report(run).tables)


def test_a_seed_that_failed_counts_as_not_kept(seeded: Run) -> None:
    *others, last = seeded.results
    failed = Result(variant="mp", seed=last.seed, status="failed", reason="no memory")
    over = table(report(seeded.model_copy(update={"results": [*others, failed]})), "Over 2 seeds")
    assert row(over, "mp")["Kept in"] == "1 of 2"
