"""Files for exports: what cannot be written is refused before measuring, and nothing is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import InputError
from bench.outputs import Outputs


def refusal(files: dict[str, Path]) -> str:
    with pytest.raises(InputError) as caught:
        Outputs(files).check()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_was_found_writable_is_written(tmp_path: Path) -> None:
    outputs = Outputs({"csv": tmp_path / "runs.csv", "json": tmp_path / "runs.json"})
    outputs.check()
    outputs.write({"csv": "a,b\r\n1,µ\r\n", "json": "{}"})
    assert (tmp_path / "runs.csv").read_bytes() == "a,b\r\n1,µ\r\n".encode()
    assert (tmp_path / "runs.json").read_text() == "{}"
    assert len(list(tmp_path.iterdir())) == 2


def test_checking_leaves_nothing_behind_and_an_existing_file_as_it_was(tmp_path: Path) -> None:
    old = tmp_path / "old.md"
    old.write_text("old")
    Outputs({"markdown": old, "csv": tmp_path / "new.csv"}).check()
    assert list(tmp_path.iterdir()) == [old]
    assert old.read_text() == "old"


def test_a_folder_that_does_not_exist_is_refused_and_not_made(tmp_path: Path) -> None:
    file = tmp_path / "reports" / "runs.csv"
    assert refusal({"csv": file}) == (f"--export-csv {file}: there is no folder {file.parent}; make it first")
    assert not file.parent.exists()


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert refusal({"latex": tmp_path}) == f"--export-latex {tmp_path}: is a folder; name a file in it"


def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    assert refusal({"json": Path("/dev/null")}).startswith("--export-json /dev/null: is not an ordinary file")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "there is no folder" in refusal({"csv": tmp_path / "file" / "runs.csv"})


@pytest.mark.parametrize("file", [Path("/proc/runs.csv"), Path("/tmp") / ("n" * 250)])
def test_a_place_that_takes_no_such_file_is_refused(file: Path) -> None:
    assert refusal({"csv": file}).startswith(f"--export-csv {file}: cannot be written (")


def test_two_formats_in_one_file_are_refused_however_it_is_spelled(tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "runs")
    message = refusal({"csv": tmp_path / "runs", "json": tmp_path / "link.csv"})
    assert message.startswith(f"--export-json {tmp_path / 'link.csv'}: is the file of --export-csv too")


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    link = tmp_path / "latest.csv"
    link.symlink_to(tmp_path / "kept" / "runs.csv")
    outputs = Outputs({"csv": link})
    outputs.check()
    outputs.write({"csv": "text"})
    assert link.is_symlink()
    assert (tmp_path / "kept" / "runs.csv").read_text() == "text"


def test_a_file_that_can_no_longer_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    outputs = Outputs({"csv": tmp_path / "gone" / "runs.csv"})
    outputs.check()
    (tmp_path / "gone").rmdir()
    with pytest.raises(InputError, match=r"--export-csv .*runs\.csv: cannot be written \(No such file"):
        outputs.write({"csv": "text"})
