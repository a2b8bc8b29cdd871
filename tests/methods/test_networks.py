"""The networks: shapes at several resolutions, sizes, and ResNet-18's published parameter count."""

import pytest
import torch

from diga_lib.methods.networks import classifier, resnet18


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name, width", [("small", 128), ("resnet18", 512)])
@pytest.mark.parametrize("shape", [(32, 32), (64, 64), (52, 60)])
def test_features_and_logits_at_several_resolutions(name, width, shape):
    network = classifier(name).eval()
    x = torch.rand(2, 3, *shape)
    assert network.features(x).shape == (2, width)
    torch.testing.assert_close(network(x), network.head(network.features(x)))
    assert network(x).shape == (2, 2)


def test_sizes():
    assert 0.5e6 < parameters(classifier("small")) < 0.7e6
    assert parameters(resnet18()) == 11_689_512 - 513 * 1000  # torchvision's, without its head


def test_an_unknown_backbone_is_one_sentence():
    with pytest.raises(ValueError, match="no backbone 'vgg'; valid names: small, resnet18"):
        classifier("vgg")
