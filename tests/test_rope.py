"""rope.py: angles worked out by hand, in each of the three ranges of llama3."""

from __future__ import annotations

import math

import pytest
import torch

from mathref.rope import RopeScaling, angles, frequencies, rotate


def test_frequencies_fall_from_one_to_the_base() -> None:
    torch.testing.assert_close(frequencies(6, 1000.0), torch.tensor([1.0, 0.1, 0.01]))
    slower = frequencies(6, 1000.0, RopeScaling("linear", 4.0))
    torch.testing.assert_close(slower, torch.tensor([0.25, 0.025, 0.0025]))


def test_llama3_keeps_fast_pairs_slows_slow_ones_and_mixes_between() -> None:
    """Base 10^4, four pairs: 159, 15.9, 1.59 and 0.159 turns in the 1000 tokens of the original context."""
    scaling = RopeScaling("llama3", 8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_seq_len=1000)
    turns = 1000 * 0.01 / (2 * math.pi)  # 1.59, between 1 and 4
    kept = (turns - 1) / 3
    expected = [1.0, 0.1, (1 - kept) * 0.01 / 8 + kept * 0.01, 0.001 / 8]
    torch.testing.assert_close(frequencies(8, 10000.0, scaling), torch.tensor(expected))


def test_scores_depend_on_the_distance_alone() -> None:
    q, k = torch.randn(2, 1, 1, 1, 8, generator=torch.Generator().manual_seed(0))
    turns = frequencies(8, 500.0, RopeScaling("llama3", 8.0, original_max_seq_len=32))

    def score(at_q: int, at_k: int) -> float:
        turned = [
            rotate(x, *angles(torch.tensor([p]), turns)) for x, p in ((q, at_q), (k, at_k))
        ]  # (1, 1, 1, D) each
        return (turned[0] * turned[1]).sum().item()

    assert score(9, 4) == pytest.approx(score(305, 300), abs=1e-4)
    assert abs(score(9, 4) - score(9, 5)) > 1e-2


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"kind": "yarn"}, "kind is 'yarn', supported: linear, llama3"),
        ({"factor": 0}, "factor is 0"),
        ({"factor": "8"}, "factor is '8'"),
        ({"factor": True}, "factor is True"),
        ({"original_max_seq_len": math.inf}, "original_max_seq_len is inf"),
        ({"low_freq_factor": 4.0}, "low_freq_factor 4.0 is not below high_freq_factor 4.0"),
    ],
)
def test_a_wrong_scaling_names_field_and_value(changes: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named) as error:
        RopeScaling(**{"kind": "llama3", "factor": 8.0, **changes})
    assert "\n" not in str(error.value)
