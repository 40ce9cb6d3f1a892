"""mCE as it is defined: sums over severities over AlexNet's, mean over corruptions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nullspace.errors import NullspaceError
from nullspace.robustness.corruptions.names import NAMES
from nullspace.robustness.mean_error import ALEXNET, corruption_error, mean_error


def test_alexnet_itself_has_an_mce_of_1() -> None:
    assert set(ALEXNET) == set(NAMES)
    found = corruption_error({name: torch.tensor([error]) for name, error in ALEXNET.items()})
    torch.testing.assert_close(found, torch.ones(1))


def test_the_mean_over_images_is_the_ratio_of_sums() -> None:
    wrong = torch.randint(0, 2, (15, 5, 40), generator=torch.Generator().manual_seed(0)).double()
    errors = {name: rows.mean(dim=0) for name, rows in zip(NAMES, wrong, strict=True)}
    sums = wrong.mean(dim=2).sum(dim=1).numpy()  # over severities, of the share of images
    expected = np.mean([total / (5 * ALEXNET[name]) for name, total in zip(NAMES, sums, strict=True)])
    assert float(corruption_error(errors).mean()) == pytest.approx(expected, rel=1e-12)
    assert float(mean_error(errors).mean()) == pytest.approx(float(wrong.mean()), rel=1e-12)


def test_a_part_of_the_corruptions_has_no_mce() -> None:
    with pytest.raises(NullspaceError, match="defined over all 15 corruptions; fog are missing"):
        corruption_error({name: torch.zeros(2) for name in NAMES if name != "fog"})
