"""A profile in the reports: what of a batch's time is told, what is predicted, and why it is not faster."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

import pytest
from rich.cells import cell_len
from rich.console import Console

from bench.nouns.measurement import measured
from bench.nouns.profile import Ceilings, Copy, Diagnosis, Portion, Profile
from bench.nouns.run import Result, Run
from reports import console, html, markdown
from reports import csv as csv_report
from reports.content import essentials, report
from reports.parts import Report, Table, plain
from reports.profile import (
    MOST_PORTIONS,
    PREDICTED_TITLE,
    TIME_TITLE,
    falls_short,
    kind_shares,
    launching_share,
    predicted_table,
    profile_report,
    time_table,
)
from tests.reports.conftest import speed_verdict
from tests.reports.profiles import DIAGNOSES, LAUNCHING, PROFILES, on_gpu, profile, profiled
from tests.reports.test_content import row, section, table
from tests.reports.test_html import HOSTILE, Page, page


def printed(shown: Report, width: int = 80) -> str:
    out = io.StringIO()
    console.lay_out(shown, Console(file=out, width=width), "More in report.html")
    return out.getvalue()


def of_profile(shown: Report) -> list[Table]:
    return [table for table in shown.tables if table.topic == "profile"]


def with_profile(run: Run, variant: str, found: Profile | None) -> Run:
    return profiled(run, PROFILES | ({variant: found} if found else {}))


def speed(value: float, predicted: float | None = None, status: str = "ok", **changes: object) -> Result:
    """A pruned row with this speed-up, 4 % to either side."""
    ratio = measured("speedup", value, "paired rounds", (0.96 * value, 1.04 * value))
    metrics = {"speedup": ratio}
    if predicted is not None:
        metrics["predicted_speedup"] = measured("predicted_speedup", predicted, "bounds", estimated=True)
    found = Result(variant="bmp25", seed=1, status="ok", metrics=metrics)
    found.verdicts = {"speedup": speed_verdict(ratio)}
    return found.model_copy(update={"status": status, **changes})


def test_the_profile_at_80_columns(run: Run, golden: Callable[[str, str], None]) -> None:
    golden("profile-80.txt", printed(profile_report(profiled(run), "bmp25")))


def test_markdown_of_a_profiled_run(run: Run, golden: Callable[[str, str], None]) -> None:
    full = report(profiled(run))
    titles = ("Why not faster", "Why not faster, further reasons", "Not available in profiles")
    own = Report(
        title=full.title,
        facts=(),
        tables=tuple(of_profile(full)),
        sections=tuple(part for part in full.sections if part.title in titles),
        closing=full.closing,
    )
    golden("profile.md", markdown.document(own))


def test_a_run_that_is_not_profiled_has_nothing_of_it(run: Run) -> None:
    full = report(run)
    assert of_profile(full) == []
    assert not any("faster," in part.title or "profiles" in part.title for part in full.sections)
    assert "profile" not in {attributes.get("id") for _, attributes in page(run).elements}


def test_shares_are_of_the_sum_of_the_portions_whatever_a_batch_takes(run: Run) -> None:
    portions = [Portion(name="attention", time=3.0, calls=1), Portion(name="head", time=1.0, calls=1)]
    shown = time_table(run, [speed(1.0, profile=profile(0.5, 1.0, modules=portions))])
    cells = row(shown, "bmp25")
    assert (cells["Attention"], cells["Head"], cells["Batch ↓"]) == ("75 %", "25 %", "500 ms")
    assert "Norms" not in cells


def test_launching_is_estimated_on_a_cpu_and_measured_on_a_gpu(run: Run) -> None:
    on_cpu = profile(0.01, 1.0, launch_time=0.0026)
    assert launching_share(on_cpu) == pytest.approx(0.26)
    assert launching_share(on_gpu(on_cpu)) == pytest.approx(0.4)
    assert launching_share(unseen := on_cpu.model_copy(update={"launch_time": None})) is None
    assert "Launching" not in row(time_table(run, [speed(1.0, profile=unseen)]), "bmp25")
    shown = [row(time_table(run, [speed(1.0, profile=p)]), "bmp25") for p in (on_cpu, on_gpu(on_cpu))]
    assert [cells["Launching"] for cells in shown] == ["~26 %", "40 %"]


def test_rates_stand_beside_the_ceiling_of_their_precision_and_the_largest_copy(run: Run) -> None:
    found = profile(1.0, 1.0, flops=100e9, bytes=5e9, flops_bound=0.25, bytes_bound=0.5)
    cells = row(time_table(run, [speed(1.0, profile=found)]), "bmp25")
    assert (cells["Compute ↑"], cells["Of matmul ceiling"]) == ("100 GFLOP/s", "25 %")
    assert (cells["Memory ↑"], cells["Of copy ceiling"]) == ("5.00 GB/s", "50 %")
    unknown = found.model_copy(update={"flops_bound": None})
    cells = row(time_table(run, [speed(1.0, profile=unknown)]), "bmp25")
    assert "Of matmul ceiling" not in cells


def test_profiles_of_minutes_that_differ_say_so(run: Run) -> None:
    def notes(*rates: float) -> str:
        rows = [
            speed(1.0, variant=name, profile=profile(1.0, 1.0, ceilings=ceilings_of(rate)))
            for name, rate in zip(("dense", "bmp25"), rates, strict=False)
        ]
        return " ".join("".join(line) for line in time_table(run, rows).notes)

    def ceilings_of(rate: float) -> Ceilings:
        return Ceilings(matmul={"float32": rate}, copies=[Copy(size=1 << 28, rate=10e9)], call=0)

    assert "2.2 times as fast" in notes(114e9, 256e9)
    assert "compare shares" in notes(100e9, 105e9)
    assert "times as fast" not in notes(100e9, 105e9)
    assert "compare shares" not in notes(100e9)


def test_what_an_engine_hides_is_absent_and_the_reason_is_told(run: Run) -> None:
    full = report(profiled(run))
    cells = row(table(full, TIME_TITLE), "mp")
    assert {cells[name] for name in ("Attention", "Compute ↑", "Memory ↑", "At best")} == {"–"}
    assert cells["Batch ↓"] == "49.4 ms"
    assert "mp, modules: torch.compile runs the model as one" in section(full, "Not available in profiles")
    assert not any(t.title == "Modules of mp" for t in full.tables)


def test_what_was_predicted_is_marked_and_what_was_had_is_its_share(run: Run) -> None:
    found = [speed(1.5, predicted=2.0), speed(1.2, variant="onnx", profile=PROFILES["mp"])]
    shown = predicted_table(run, found)
    assert row(shown, "bmp25") == {"Predicted ↑": "~2.00", "Measured ↑": "1.50 ± 0.06", "Reached ↑": "~75 %"}
    assert row(shown, "onnx") == {"Predicted ↑": "–", "Measured ↑": "1.20 ± 0.05", "Reached ↑": "–"}
    assert predicted_table(run, [speed(1.5)]).rows == ()


def test_what_one_side_sums_up_is_not_said_to_be_absent_there(run: Run) -> None:
    def of(*names: str) -> Profile:
        return profile(1.0, 1.0, operators=[Portion(name=name, time=1.0, calls=1) for name in names])

    found = profiled(run, {"dense": of("addmm", "3 others"), "bmp25": of("addmm", "gelu")})
    shown = table(report(found), "Operators of dense and bmp25")
    assert row(shown, "gelu")["Time, dense"] == "in others"
    assert row(shown, "others")["Time, variant"] == "–"


def test_dense_stands_beside_a_variant_by_the_operator_s_name(run: Run) -> None:
    shown = table(report(profiled(run)), "Operators of dense and bmp25+kd+mp")
    assert shown.first == "Operator"
    cells = row(shown, "addmm")
    assert (cells["Time, dense"], cells["Time, variant"]) == ("33.7 ms", "10.9 ms")
    assert shown.rows[-1].label == "others"


def test_without_a_profile_of_dense_a_variant_stands_alone(run: Run) -> None:
    alone = profiled(run, {"bmp25": PROFILES["bmp25"]})
    assert "Time" in row(table(report(alone), "Operators of bmp25"), "addmm")
    only_dense = profiled(run, {"dense": PROFILES["dense"]})
    assert "Time" in row(table(report(only_dense), "Operators of dense"), "addmm")


def test_another_seed_s_dense_is_not_set_beside_a_variant(seeded: Run) -> None:
    dense = [r for r in seeded.results if r.variant == "dense"]
    dense[0].profile, dense[1].profile = profile(0.04, 1.0), profile(0.08, 1.0)
    best = [r for r in seeded.results if r.variant == "bmp25+kd+mp"]
    best[1].profile = profile(0.02, 0.5)
    shown = table(report(seeded), "Operators of dense and bmp25+kd+mp (seed 2)")
    assert row(shown, "addmm")["Time, dense"] == "62.5 ms"


def test_another_machine_s_dense_is_not_set_beside_a_variant(run: Run) -> None:
    shown = profiled(run)
    shown.results[0].machine = "ab"
    assert "Time" in row(table(report(shown), "Operators of bmp25"), "addmm")
    assert all("machines that differ" not in line for line in page(profiled(run)).lines())
    assert any("machines that differ" in line for line in page(shown).lines())


def test_a_page_that_lies_elsewhere_links_no_trace(run: Run) -> None:
    away = Page(html.render(profiled(run), [], in_folder=False))
    assert not [a["href"] for a in away.every("a") if "traces" in a["href"]]
    assert any("traces/dense.json.gz" in line for line in away.lines())


def test_only_the_longest_are_on_the_console_and_the_rest_is_said(run: Run) -> None:
    many = [Portion(name=f"op{n}", time=1.0 + n, calls=1) for n in range(14)]
    found = with_profile(run, "bmp25", profile(0.03, 0.5, operators=many))
    shown = table(profile_report(found, "bmp25"), "Operators")
    assert [r.label for r in shown.rows[:2]] == ["op13", "op12"]
    assert len(shown.rows) == MOST_PORTIONS
    assert ("9 more in report.md and report.html",) in shown.notes


def test_a_kernel_s_long_name_is_cut(run: Run) -> None:
    found = with_profile(run, "bmp25", on_gpu(PROFILES["bmp25"]))
    labels = [r.label for r in table(report(found), "Kernels of dense and bmp25").rows]
    assert any(label.startswith("void at::native") and label.endswith("…") for label in labels)
    assert max(map(len, labels)) == 60


@pytest.mark.parametrize(
    ("found", "short"),
    [
        (speed(1.0), True),
        (speed(0.8), True),
        (speed(2.0), False),
        (speed(2.0, predicted=2.2), False),
        (speed(2.0, predicted=2.59), False),
        (speed(2.0, predicted=2.61), True),
        (speed(0.8, status="failed"), False),
        (speed(1.0, variant="dense"), False),
        (speed(1.0, verdicts={}), True),
    ],
)
def test_who_is_told_why(found: Result, short: bool) -> None:
    assert falls_short(found) == short


def test_two_reasons_are_essential_and_the_others_details(run: Run) -> None:
    full = report(profiled(run))
    told = section(full, "Why not faster")
    assert told[0] == f"bmp25: {LAUNCHING.text}; {LAUNCHING.remedy}"
    assert [line.partition(":")[0] for line in told] == ["bmp25", "bmp25", "mp"]
    assert len(section(full, "Why not faster, further reasons")) == len(DIAGNOSES["bmp25"]) - 2
    short = essentials(full)
    assert section(short, "Why not faster") == told
    assert section(short, "Why not faster, further reasons") == []


def test_the_profile_s_sentence_and_heading_fit_its_row(run: Run) -> None:
    shown = profiled(run)
    titles = {
        name: [part.title for part in profile_report(shown, name).sections] for name in ("mp", "bmp25+kd+mp")
    }
    assert titles["mp"] == ["Why it is not faster", "Not available"]
    assert titles["bmp25+kd+mp"] == ["What limits its speed"]
    assert "".join(profile_report(shown, "dense").closing) == "A batch takes dense 43.1 ms."
    closing = "".join(profile_report(shown, "bmp25").closing)
    assert closing.startswith("bmp25 is 1.31 ± 0.06 times faster than dense")
    assert closing.endswith("Its FLOPs and bytes would allow ~2.00 times (estimated).")
    failed = "".join(profile_report(shown, "onnx+int8").closing)
    assert failed.startswith("onnx+int8 was not profiled: RuntimeError: out of memory")
    assert "".join(profile_report(shown, "absent").closing).startswith("absent was not profiled")


@pytest.mark.parametrize("width", [40, 80, 140])
@pytest.mark.parametrize("variant", ["dense", "bmp25", "bmp25+kd+mp", "mp", "onnx+int8"])
def test_every_line_fits(run: Run, variant: str, width: int) -> None:
    out = printed(profile_report(profiled(run), variant), width)
    assert max(map(cell_len, out.splitlines())) <= width


def test_csv_tells_kinds_launching_and_the_bound(run: Run) -> None:
    text = csv_report.document({"one": profiled(run)})
    rows = {
        (line["variant"], line["metric"]): line
        for line in csv.DictReader(io.StringIO(text, newline=""))
        if line["scenario"] == "profile"
    }
    dense = PROFILES["dense"]
    assert float(rows["dense", "batch_time"]["value"]) == dense.time
    kinds = {name: share * dense.time for name, share in kind_shares(dense).items()}
    assert {name: float(rows["dense", f"{name}_time"]["value"]) for name in kinds} == kinds
    assert rows["dense", "launching_share"]["estimated"] == "true"
    assert rows["dense", "batch_bound"]["unit"] == "s"
    assert ("mp", "batch_flops") not in rows
    assert ("onnx+int8", "batch_time") not in rows


def hostile(run: Run, text: str) -> Run:
    """The profiled run with `text` wherever a library's words can stand."""
    found = profiled(run)
    for result in found.results:
        if result.profile:
            portions = [Portion(name=text, time=0.01, calls=3, flops=1e9, bytes=1e8)]
            result.profile = result.profile.model_copy(
                update={"operators": portions, "kernels": portions, "dtype": text, "trace": f"traces/{text}"}
            ).model_copy(update={"unavailable": {"modules": text}, "modules": []})
        result.diagnoses = [Diagnosis(code="masks", text=text, figure=1, unit="1", remedy=text)]
    return found


@pytest.mark.parametrize("text", [*HOSTILE, "javascript:alert(1)", "a&b\\c{d}$_^"])
def test_words_of_libraries_do_not_act(run: Run, text: str) -> None:
    shown, harmless = page(hostile(run, text)), page(hostile(run, "harmless"))
    assert [tag for tag, _ in shown.elements] == [tag for tag, _ in harmless.elements]
    assert [set(own) for _, own in shown.elements] == [set(own) for _, own in harmless.elements]
    links = [a["href"] for a in shown.every("a") if "traces" in a["href"]]
    assert links
    assert all(link.startswith("./traces/") and not set(link) & set("<>\"' \n") for link in links)
    written = markdown.render(hostile(run, text))
    assert len(written.splitlines()) == len(markdown.render(hostile(run, "harmless")).splitlines())
    assert "<script" not in written
    assert "\x1b" not in printed(profile_report(hostile(run, text), "bmp25"))


def test_the_page_has_the_tables_the_reasons_and_the_traces(run: Run) -> None:
    shown = profiled(run)
    parsed = page(shown)
    lines = parsed.lines()
    for found in of_profile(report(shown)):
        assert found.title in lines
        assert all(any(line.startswith(plain(r.label)) for line in lines) for r in found.rows)
    assert f"{LAUNCHING.text}; {LAUNCHING.remedy}" in lines
    links = [a["href"] for a in parsed.every("a") if not a["href"].startswith("#")]
    assert "./traces/a%20b%231.json.gz" in links
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert PREDICTED_TITLE in lines
