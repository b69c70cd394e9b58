"""Features that are not finite."""

import numpy as np
import pytest
from task_stubs import TableEncoder, image_of

from benchmark.evaluate.scores import image_features, text_features


def test_features_that_are_not_finite_are_a_clear_error() -> None:
    encoder = TableEncoder(np.array([[1.0, 0.0], [np.nan, 0.0], [0.0, np.inf]]), {"a": [np.nan]})
    with pytest.raises(ValueError, match=r"knn on toy: 2 of 3 image features are not finite"):
        image_features(encoder, [image_of(i) for i in range(3)], "knn on toy")
    with pytest.raises(ValueError, match=r"retrieval on toy: 1 of 1 text features are not finite"):
        text_features(encoder, ["a"], "retrieval on toy")
