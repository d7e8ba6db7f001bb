"""A saved run, logged to a real MLflow server on loopback and read back from it."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import InputError
from bench.folder import read_run
from bench.nouns.run import Run
from bench.trackers import LONGEST_PARAMETER, LONGEST_TAG, check, quiet, track, without_credentials
from tests.reports import conftest as documents
from tests.reports.test_markdown import hostile

# Imported by `quiet` alone, since MLflow's telemetry begins with the import.
pytestmark = pytest.mark.skipif(
    find_spec("mlflow") is None, reason="needs mlflow: pip install 'compressed-transformer-bench[mlflow]'"
)

run = documents.run
REPOSITORY = Path(__file__).parents[2]
GRID = REPOSITORY / "baselines/dc52a33a7e70/minilm-english-headlines-quick.json"
START_UP_S = 600
CI = ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "PYTEST_CURRENT_TEST")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server with an empty database."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    stores = ("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", folder)
    words = ("server", "--host", "127.0.0.1", "--port", port, "--workers", 1, *stores)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *map(str, words)],
            cwd=folder,
            env={
                **os.environ,
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            },
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/health", process)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    """Come back once `address` answers."""
    end = time.monotonic() + START_UP_S
    while time.monotonic() < end:
        assert process.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the server did not start")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who does not wait for a server that fails, and whose own settings are not in the way."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")


@pytest.fixture
def tracking(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The server, as the one that the user names."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    return server


class Kept:
    """What a server keeps in one experiment."""

    def __init__(self, address: str, experiment: str) -> None:
        with quiet(retries=0):
            from mlflow import MlflowClient

            self.client: Any = MlflowClient(address)
            self.experiment = self.client.get_experiment_by_name(experiment).experiment_id
            found = self.client.search_runs([self.experiment], max_results=1000)
        self.parents = [logged for logged in found if "mlflow.parentRunId" not in logged.data.tags]
        self.children = {
            logged.data.params["variant"]: logged
            for logged in found
            if logged.data.tags.get("mlflow.parentRunId") == self.parents[0].info.run_id
        }
        self.count = len(found)

    def artifacts(self, folder: Path) -> dict[str, bytes]:
        """The parent's artifacts by name, downloaded into a new folder."""
        folder.mkdir()
        with quiet(retries=0):
            self.client.download_artifacts(self.parents[0].info.run_id, "", str(folder))
        return files(folder)

    def curve(self, variant: str, metric: str) -> dict[int, float]:
        """A metric's values by step."""
        with quiet(retries=0):
            found = self.client.get_metric_history(self.children[variant].info.run_id, metric)
        return {point.step: point.value for point in found}


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def folder(run: Run, tmp_path: Path) -> Path:
    """The folder of a run, with its document and reports."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text(run.model_dump_json(indent=2))
    (folder / "report.md").write_text("# as it was printed\n")
    (folder / "report.html").write_text("<!doctype html><title>möglich</title>")
    return folder


@pytest.fixture
def kept(run: Run, folder: Path, tracking: str) -> Kept:
    """The run as the server has it; the tests that only look share what the first of them logged."""
    track("mlflow", run, folder)
    return Kept(tracking, run.task.name)


def test_a_run_and_its_reports_come_back_as_they_were_saved(run: Run, folder: Path, kept: Kept) -> None:
    saved = files(folder)
    assert sorted(saved) == ["report.html", "report.md", "run.json"]
    assert kept.artifacts(folder.with_name("downloaded")) == saved
    assert sorted(kept.children) == sorted(result.variant for result in run.results)


def test_one_line_says_where_it_went_and_nothing_else_is_said(
    run: Run, folder: Path, tracking: str, capfd: pytest.CaptureFixture[str]
) -> None:
    saved = files(folder)
    line = track("mlflow", named(run, "said"), folder)
    said = Kept(tracking, "said")
    assert line == f"mlflow: {tracking}/#/experiments/{said.experiment}/runs/{said.parents[0].info.run_id}"
    assert capfd.readouterr() == ("", "")
    assert files(folder) == saved


def test_the_parent_says_what_was_asked_for_and_where_it_ran(run: Run, kept: Kept) -> None:
    [parent] = kept.parents
    assert (parent.info.run_name, parent.info.status) == (run.id, "FINISHED")
    assert parent.info.start_time == run.started_at.timestamp() * 1000
    assert parent.info.end_time - parent.info.start_time == 1_461_000
    assert parent.data.metrics == {"wall_time": 1461.0}
    params = parent.data.params
    assert params["command"] == "bench run --variants all"
    assert params["variants"] == '["dense", "bmp25", "bmp25+kd+mp"]'
    assert (params["device"], params["batch_size"], params["learning_rate"]) == ("cpu", "32", "3e-05")
    tags = {name: text for name, text in parent.data.tags.items() if name.startswith("bench.")}
    assert tags.pop("bench.document")
    assert tags == {
        "bench.run_id": run.id,
        "bench.started_at": "2026-05-11T09:30:12+00:00",
        "bench.machine_key": "5f1a",
        "bench.commit": "36c5e4d",
        "bench.status": "complete",
        "bench.recommended_variant": "bmp25+kd+mp",
        "bench.warnings": "steal, spinning",
    }


def test_a_variant_has_its_metrics_verdicts_and_scenarios(run: Run, kept: Kept) -> None:
    logged, result = kept.children["bmp25+kd+mp"], run.result("bmp25+kd+mp")
    assert result
    metrics = logged.data.metrics
    for name, measured in result.metrics.items():
        assert metrics[name] == measured.value
        assert metrics.get(f"{name}.ci_low") == measured.ci_low
        assert metrics.get(f"{name}.ci_high") == measured.ci_high
    one_thread = result.scenarios["batch 32, 1 thread"].metrics["throughput"]
    assert metrics["batch 32 1 thread/throughput"] == one_thread.value
    assert logged.info.status == "FINISHED"
    assert logged.data.params["seed"] == "1"
    assert "command" not in logged.data.params
    tags = logged.data.tags
    assert tags["bench.recommended"] == "true"
    assert tags["bench.accuracy_kept.test"] == "kept"
    assert tags["bench.verdict.speedup"] == result.verdicts["speedup"].word
    estimated = {name for name, measured in result.metrics.items() if measured.estimated}
    assert estimated
    assert set(tags["bench.estimated"].split(", ")) == estimated
    assert "latency_p95: 130 samples are needed and 64 were taken" in tags["bench.unavailable"]


@pytest.mark.parametrize(
    ("variant", "word", "status"), [("onnx+int8", "failed", "FAILED"), ("fisher50", "skipped", "KILLED")]
)
def test_what_failed_or_was_skipped_says_why(
    run: Run, kept: Kept, variant: str, word: str, status: str
) -> None:
    result, logged = run.result(variant), kept.children[variant]
    assert result
    assert (logged.info.status, logged.data.tags["bench.status"]) == (status, word)
    assert logged.data.tags["bench.reason"] == result.reason
    assert logged.data.metrics == {}


def test_a_real_grid_is_logged_once(tracking: str, tmp_path: Path) -> None:
    grid = read_run(GRID)
    first = track("mlflow", grid, None)
    kept = Kept(tracking, grid.task.name)
    assert track("mlflow", grid, None) == f"{first} (is there already)"
    assert Kept(tracking, grid.task.name).count == kept.count == 1 + len(grid.results)
    [document] = kept.artifacts(tmp_path / "downloaded").values()
    assert Run.model_validate_json(document) == grid
    result = grid.result("bmp75")
    assert result
    logged = {int(entry["step"]): entry["loss"] for entry in result.training}
    assert kept.curve("bmp75", "training/loss") == logged


def test_a_run_that_went_on_replaces_what_was_logged_of_it(run: Run, tracking: str) -> None:
    run = named(run, "resumed")
    broken_off = run.model_copy(update={"status": "interrupted", "results": run.results[:3]})
    track("mlflow", broken_off, None)
    [parent] = Kept(tracking, "resumed").parents
    assert (parent.info.status, parent.data.tags["bench.status"]) == ("KILLED", "interrupted")
    assert track("mlflow", run, None).endswith(" (replaces an earlier one)")
    kept = Kept(tracking, "resumed")
    assert [parent.info.status for parent in kept.parents] == ["FINISHED"]
    assert kept.count == 1 + len(run.results)


def test_another_run_in_a_folder_of_the_same_name_is_kept_beside_it(run: Run, tracking: str) -> None:
    run = named(run, "same folder")
    later = run.model_copy(update={"started_at": run.started_at.replace(hour=23)})
    track("mlflow", run, None)
    track("mlflow", later, None)
    assert [parent.info.run_name for parent in Kept(tracking, "same folder").parents] == [run.id] * 2


def test_seeds_are_told_apart(run: Run, tracking: str) -> None:
    results = [result.model_copy(update={"seed": seed}) for seed in (1, 2) for result in run.results[:1]]
    config = run.config.model_copy(update={"seeds": [1, 2]})
    run = named(run, "seeds").model_copy(update={"config": config, "results": results})
    track("mlflow", run, None)
    kept = Kept(tracking, "seeds")
    with quiet(retries=0):
        names = {logged.info.run_name for logged in kept.client.search_runs([kept.experiment])}
    assert names == {run.id, "bmp25, seed 1", "bmp25, seed 2"}


@pytest.mark.parametrize("text", ["a'b`c\"d", "two\nlines", "../../x", "मराठी 🏆", 900 * "0123456789"])
def test_words_of_a_user_arrive_whole_or_visibly_cut(run: Run, tracking: str, text: str) -> None:
    config = run.config.model_copy(update={"command": text})
    failed = documents.results()[-2].model_copy(update={"reason": text, "variant": f"onnx{text}"})
    run = hostile(run, text).model_copy(
        update={"id": f"{run.id}{text}", "config": config, "results": [failed]}
    )
    track("mlflow", run, None)
    kept = Kept(tracking, shortened(text, 500))
    [child] = kept.children.values()
    assert child.data.tags["bench.reason"] == shortened(text, LONGEST_TAG)
    assert child.data.params["variant"] == shortened(f"onnx{text}", LONGEST_PARAMETER)
    assert kept.parents[0].data.params["command"] == shortened(text, LONGEST_PARAMETER)
    assert kept.parents[0].info.run_name == shortened(run.id, 250)


def shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def test_a_server_that_breaks_off_halfway_is_one_line_and_can_be_tried_again(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = named(read_run(GRID), "broken off")
    with breaking(server, answers=20) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        message = refusal(lambda: track("mlflow", grid, None))
    assert message.startswith(f"--track mlflow: {address} cannot be used (")
    assert message.endswith("; the run is saved, and bench report --track mlflow logs it later")
    half = Kept(server, "broken off")
    assert [parent.info.status for parent in half.parents] == ["RUNNING"]
    assert 1 < half.count < 1 + len(grid.results)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    assert track("mlflow", grid, None).endswith(" (replaces an earlier one)")
    whole = Kept(server, "broken off")
    assert [parent.info.status for parent in whole.parents] == ["FINISHED"]
    assert whole.count == 1 + len(grid.results)


@contextmanager
def breaking(server: str, answers: int) -> Iterator[str]:
    """The address of a way to `server` that is cut after so many answers."""
    left = iter(range(answers))

    class Way(BaseHTTPRequestHandler):
        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if next(left, None) is None:
                self.close_connection = True
                return
            onward = http.client.HTTPConnection(server.removeprefix("http://"))
            headers = {**self.headers, "Host": server.removeprefix("http://")}
            onward.request(self.command, self.path, body, headers)
            answer = onward.getresponse()
            content = answer.read()
            onward.close()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = forward  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    way = ThreadingHTTPServer(("127.0.0.1", 0), Way)
    thread = threading.Thread(target=way.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{way.server_address[1]}"
    finally:
        way.shutdown()
        way.server_close()
        thread.join()


def refusal(call: Any) -> str:
    """The one line that a call is refused with."""
    with pytest.raises(InputError) as caught:
        call()
    [line] = str(caught.value).splitlines()
    return line


def named(run: Run, task: str) -> Run:
    """The run, of a task and so in an experiment of its own."""
    return run.model_copy(update={"task": run.task.model_copy(update={"name": task})})


def test_a_server_that_answers_passes(tracking: str) -> None:
    check("mlflow")


def test_a_server_that_is_not_there_is_refused_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:hunter2@127.0.0.1:{port}")
    message = refusal(lambda: check("mlflow"))
    assert message == (
        f"--track mlflow: http://127.0.0.1:{port} cannot be used ([Errno 111] Connection refused); "
        "see that it is there, or name another with MLFLOW_TRACKING_URI"
    )


@pytest.mark.parametrize("answer", [401, 404])
def test_a_server_that_refuses_or_is_something_else_is_refused(
    answer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_error(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{other.server_address[1]}")
        try:
            message = refusal(lambda: check("mlflow"))
        finally:
            other.shutdown()
    assert f"error code {answer}" in message


def test_a_store_of_no_known_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://x")
    assert "nonsense://x cannot be used" in refusal(lambda: check("mlflow"))


def test_an_unknown_tracker_is_refused() -> None:
    message = refusal(lambda: check("mlfow"))
    assert message == "--track mlfow: no such tracker; did you mean 'mlflow'? known: mlflow"


def test_mlflow_that_is_not_installed_is_refused_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    message = refusal(lambda: check("mlflow"))
    assert message.endswith("pip install 'compressed-transformer-bench[mlflow]'")


@given(user=st.text(min_size=1), password=st.text(min_size=8))
def test_no_password_of_an_address_is_ever_shown(user: str, password: str) -> None:
    def written(text: str) -> str:
        return quote(text, safe="")

    address = f"http://{written(user)}:{written(password)}@tracking.example:5000/base"
    said = without_credentials(f"API request to {address} failed")
    assert said == "API request to http://tracking.example:5000/base failed"


@pytest.mark.parametrize("password", ["p/w", "p@w", "/", "p//w", "a?b#c"])
def test_a_password_that_is_not_written_as_an_address_wants_it_is_never_said(password: str) -> None:
    said = without_credentials(f"API request to http://user:{password}@host:80/base failed")
    assert said == "API request to http://host:80/base failed"


PROGRAM = """
import os, sys
from pathlib import Path
from bench.folder import read_run
from bench.trackers import check, track
before = dict(os.environ)
check("mlflow")
print(track("mlflow", read_run(Path(sys.argv[1])), None))
assert dict(os.environ) == before
"""


def test_without_an_address_it_is_a_local_database_and_nobody_is_asked(run: Run, tmp_path: Path) -> None:
    document = tmp_path / "run.json"
    document.write_text(run.model_dump_json())
    work = tmp_path / "work"
    work.mkdir()
    with listening() as (proxy, connections):
        inherited = {name: value for name, value in os.environ.items() if name not in CI}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, document],
            cwd=work,
            env=inherited | {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert (done.stderr, done.returncode) == ("", 0)
        assert connections == []
    assert sorted(file.name for file in work.iterdir()) == ["mlflow.db", "mlruns"]
    [parent] = Kept(f"sqlite:///{work}/mlflow.db", "ag-news").parents
    assert done.stdout == (
        f"mlflow: run {parent.info.run_id} in sqlite:///{work}/mlflow.db (MLFLOW_TRACKING_URI is not set)\n"
    )


@contextmanager
def listening() -> Iterator[tuple[str, list[object]]]:
    """A proxy that answers nobody, and who came."""
    connections: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as proxy:

        def accept() -> None:
            while True:
                try:
                    connection, address = proxy.accept()
                except OSError:
                    return
                connections.append(address)
                connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.getsockname()[1]}", connections
        finally:
            proxy.shutdown(socket.SHUT_RDWR)
            thread.join()
