import numpy as np
import pandas as pd
import pytest

from diga_lib.data import ImageDataset, LabelledImages


def pool():
    images = np.arange(4 * 12, dtype=np.uint8).reshape(4, 3, 2, 2)
    return ImageDataset(
        images,
        pd.DataFrame({"Male": [0, 1, 1, 0]}, dtype=np.int8),
        pd.DataFrame({"AU12": [0.0, 1, 2, 3]}),
        "four",
        pd.DataFrame({"image_id": list("abcd")}),
    )


@pytest.mark.parametrize("rows", [[2, 0], slice(1, 3), np.array([True, False, False, True])])
def test_select_keeps_rows_together(rows):
    part = pool().select(rows)
    expected = np.arange(4)[rows]
    assert (part.images == pool().images[expected]).all()
    assert part.factors["AU12"].tolist() == expected.tolist()
    assert part.metadata["image_id"].tolist() == [list("abcd")[i] for i in expected]
    assert part.attributes["Male"].tolist() == [[0, 1, 1, 0][i] for i in expected]
    assert len(part) == len(expected) and part.attributes.index.tolist() == list(range(len(expected)))


def test_with_attribute_adds_and_replaces():
    noisy = pool().with_attribute("Attractive", [True, False, True, False]).with_attribute("Male", [1, 1, 1, 1])
    assert noisy.attributes.to_dict("list") == {"Male": [1, 1, 1, 1], "Attractive": [1, 0, 1, 0]}
    assert (noisy.attributes.dtypes == np.int8).all()
    with pytest.raises(ValueError, match="4 values that are 0 or 1"):
        pool().with_attribute("Male", [0, 1, 2, 0])


def test_parts_that_do_not_fit_are_refused():
    images = np.zeros((2, 3, 4, 4), np.uint8)
    with pytest.raises(ValueError, match="attributes has 3 rows for 2 images"):
        ImageDataset(images, pd.DataFrame({"Male": [0, 1, 1]}), None, "x")
    with pytest.raises(ValueError, match="valid is uint8"):
        ImageDataset(images.astype(float), pd.DataFrame({"Male": [0, 1]}), None, "x")
    with pytest.raises(ValueError, match="target has shape"):
        LabelledImages(images, np.zeros(3, np.int64), None, np.arange(2))
