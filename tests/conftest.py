"""What all tests share: one thread, and drawn faces in CelebA's layout."""

import numpy as np
import pytest
import torch
from PIL import Image

from diga_lib.data import faces
from diga_lib.data.photos.align import target_eyes
from diga_lib.data.photos.layouts import CELEBA_EYES, CELEBA_SIZE


@pytest.fixture(autouse=True)
def one_thread():
    """Arrays this small gain nothing from a second thread, and lose much on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def draw_celeba():
    """A function that writes `n` drawn faces, PNG files of 178 x 218 pixels, and the tables that CelebA has."""

    def draw(root, n, seed):
        # The side at which a drawn face has its eyes as far apart as a crop of CelebA, and where it then lies.
        side = round(np.diff(CELEBA_EYES[:, 0]).item() / np.diff(target_eyes(1)[:, 0]).item())
        left, top = np.round(CELEBA_EYES[0] - target_eyes(side)[0]).astype(int)
        images, table, _ = faces.render(seed, range(n), side)
        names = [f"{i + 1:06d}.png" for i in range(n)]
        (root / "img_align_celeba").mkdir(parents=True)
        for name, image in zip(names, images.transpose(0, 2, 3, 1), strict=True):
            whole = Image.new("RGB", CELEBA_SIZE, "grey")
            whole.paste(Image.fromarray(image), (left, top))
            whole.save(root / "img_align_celeba" / name)
        table = table.drop(columns="Ethnicity") * 2 - 1  # which CelebA does not have
        lines = [f"{name} {' '.join(map(str, row))}" for name, row in zip(names, table.to_numpy(), strict=True)]
        (root / "list_attr_celeba.txt").write_text("\n".join([str(n), " ".join(table), *lines]))
        parts = [f"{name} {part}" for name, part in zip(names, np.digitize(np.arange(n) / n, (0.8, 0.9)), strict=True)]
        (root / "list_eval_partition.txt").write_text("\n".join(parts))
        return root

    return draw
