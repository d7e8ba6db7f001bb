"""Errors told apart by what libraries say."""

from __future__ import annotations

import pytest

from bench.errors import is_out_of_memory


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("CUDA driver error: out of memory"), True),
        (RuntimeError("Triton Error [CUDA]: out of memory"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA failure 2: out of memory ; GPU=0 ; hostname=a"), True),
        (RuntimeError("index out of range"), False),
        (ValueError("the message names memory alone"), False),
    ],
)
def test_want_of_memory_is_told_by_its_words(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) == expected
