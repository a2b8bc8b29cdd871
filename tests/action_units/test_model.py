"""AUEditNet against equation 2 written out, and what its parts promise."""

import numpy as np
import pytest
import torch

from diga_lib.action_units.editors import AUEditNet, LabelEncoder, SingleBranch


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = AUEditNet().eval()
    for parameter in net.parameters():  # the curved part of the label encoder begins at zero
        torch.nn.init.normal_(parameter, std=0.1)
    return net


@pytest.fixture
def faces():
    random = torch.Generator().manual_seed(1)
    return torch.randn(4, 5, 64, generator=random), *(5 * torch.rand(2, 4, 12, generator=random))


def softplus(x):
    return np.log1p(np.exp(x))


def slow_change(net, codes, labels):
    """Psi_enc and M_j for one face at a time, level by level, in numpy."""
    p = {name: value.detach().double().numpy() for name, value in net.named_parameters()}
    out = np.zeros(codes.shape)
    for n, (w, y) in enumerate(zip(codes.double().numpy(), labels.double().numpy() / 5, strict=True)):
        hidden = softplus(p["encoder.into.weight"] @ y + p["encoder.into.bias"]) - softplus(p["encoder.into.bias"])
        e = (p["encoder.straight.weight"] @ y + p["encoder.out.weight"] @ hidden).reshape(5, -1)
        for j in range(5):
            m = {name.removeprefix(f"modules_of_levels.{j}."): value for name, value in p.items()}
            gate = np.tanh(m["gate.0.weight"] @ w.reshape(-1) + m["gate.0.bias"])
            gate = np.tanh(m["gate.3.weight"] @ gate + m["gate.3.bias"])
            out[n, j] = m["common.weight"] @ e[j] + m["own.weight"] @ ((m["asked.weight"] @ e[j]) * gate)
    return out


@torch.no_grad()
def test_equation_2_written_out(net, faces):
    codes, source, target = faces
    neutral = codes.double().numpy() - slow_change(net, codes, source)
    np.testing.assert_allclose(net.neutral(codes, source), neutral, atol=1e-4)
    expected = neutral + slow_change(net, torch.from_numpy(neutral), target)
    np.testing.assert_allclose(net(codes, source, target), expected, atol=1e-4)


@torch.no_grad()
def test_the_neutral_face_is_a_fixed_point(net, faces):
    codes, nothing = faces[0], torch.zeros(4, 12)
    torch.testing.assert_close(net.neutral(codes, nothing), codes)
    torch.testing.assert_close(net(codes, nothing, nothing), codes)


@torch.no_grad()
def test_intensities_beyond_the_labels_go_on_in_their_direction(faces):
    torch.manual_seed(0)
    encoder, one = LabelEncoder(), torch.eye(12)
    five, seven, minus = (encoder(k * one).flatten(1) for k in (5, 7, -2))
    assert (torch.cosine_similarity(five, seven) > 0.9).all()
    assert (seven.norm(dim=1) > five.norm(dim=1)).all()
    assert (torch.cosine_similarity(five, minus) < -0.5).all()


def test_each_module_changes_its_own_level_only(net, faces):
    codes, _, target = faces
    for module in net.modules_of_levels[:2]:
        for parameter in module.parameters():
            torch.nn.init.zeros_(parameter)
    change = net.change(codes, target)
    assert (change[:, :2] == 0).all() and (change[:, 2:].abs().amax((0, 2)) > 0).all()


@torch.no_grad()
def test_the_single_branch_gets_both_labels(faces):
    codes, source, target = faces
    net = SingleBranch().eval()
    assert net(codes, source, target).shape == codes.shape
    assert not torch.allclose(net(codes, source, target), net(codes, target, source))


@pytest.mark.parametrize("shape", [AUEditNet, SingleBranch])
def test_a_gain_multiplies_what_labels_change(shape):
    editor, codes = shape().eval(), torch.randn(4, 5, 64)
    labels = torch.rand(4, 12 if shape is AUEditNet else 24)
    with torch.no_grad():
        once = editor.change(codes, labels)
        editor.gain.fill_(1.5)
        torch.testing.assert_close(editor.change(codes, labels), 1.5 * once)
