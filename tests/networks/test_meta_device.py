"""Numbers of networks, against what their definitions say. These sources are ours, so they run without a sandbox."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nngpt_ext.networks.meta_device import measure, warm_up
from nngpt_ext.networks.structure import NUMBERS, parse_structure

EXAMPLE = Path(__file__).parents[2] / "examples" / "alexnet.py"
HEAD = "import torch\nfrom torch import nn\nimport torch.nn.functional as F\n"
SMALL = (3, 32, 32, 10)


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    warm_up()


def measured(body: str, shape: tuple[int, int, int, int] = SMALL) -> dict[str, Any]:
    found = measure(HEAD + body, shape)
    parse_structure(found, whole=True)
    return found


def net(layers: str, forward: str = "return self.body(x)", before: str = "") -> str:
    return (
        "class Net(nn.Module):\n    def __init__(self, in_shape, out_shape, prm, device):\n        super().__init__()\n"
        f"        {before or 'pass'}\n        self.body = {layers}\n    def forward(self, x):\n        {forward}\n"
    )


def test_alexnet():
    """Counted by hand from the layers of examples/alexnet.py; maps have sides of 32, 16 and 8."""
    found = measure(EXAMPLE.read_text(), (3, 64, 64, 10))
    convolutions = [(3, 64, 32), (64, 192, 16), (192, 384, 8), (384, 256, 8), (256, 256, 8)]
    linear = [(256 * 4 * 4, 1024), (1024, 1024), (1024, 10)]
    weights = [i * o * 9 for i, o, _ in convolutions] + [i * o for i, o in linear]
    biases = [o for _, o, _ in convolutions] + [o for _, o in linear]
    assert found["parameters"] == found["trainable"] == sum(weights) + sum(biases)
    assert found["macs"] == sum(i * o * 9 * m * m for i, o, m in convolutions) + sum(i * o for i, o in linear)
    assert found["activations"] == sum(o * m * m for _, o, m in convolutions)
    said = {name: found[name] for name in ("layers", "depth", "layer_calls", "convolutions", "linear", "layer_width")}
    assert said == {"layers": 8, "depth": 8, "layer_calls": 8, "convolutions": 5, "linear": 3, "layer_width": 1024}
    first = {name: found[name] for name in ("first_width", "first_kernel", "first_stride")}
    assert first == {"first_width": 64, "first_kernel": 3, "first_stride": 2}
    maps = {name: found[name] for name in ("last_width", "last_map", "pooled_map", "smallest_map")}
    assert maps == {"last_width": 256, "last_map": 8, "pooled_map": 8, "smallest_map": 8}
    head = {name: found[name] for name in ("classifier_parameters", "classifier_inputs", "dropout", "adaptive_pooling")}
    assert head == {"classifier_parameters": 10_250, "classifier_inputs": 1024, "dropout": 2, "adaptive_pooling": 1}
    assert (found["normalisation"], found["forward"], found["relu"], found["max_pools"]) == (0, 1, 7, 2)


def test_depth_is_the_longest_way():
    found = measured(
        net(
            "nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))",
            "return self.head((self.body(x) + self.short(x)).mean((2, 3)))",
            "self.short = nn.Conv2d(3, 3, 1); self.head = nn.Linear(3, out_shape[0])",
        )
    )
    assert (found["layers"], found["layer_calls"], found["depth"]) == (4, 4, 3)


def test_shared_layers_count_once_and_are_called_twice():
    found = measured(net("nn.Conv2d(3, 3, 3, padding=1)", "return self.body(self.body(x)).flatten(1)"))
    assert (found["layers"], found["layer_calls"], found["depth"]) == (1, 2, 2)
    assert found["macs"] == 2 * 3 * 3 * 9 * 32 * 32


def test_functions_count_as_layers_do():
    found = measured(
        net("nn.Identity()", "return F.linear(F.relu(F.conv2d(x, self.w, stride=2)).flatten(1), self.v)",
            "self.w = nn.Parameter(torch.randn(4, 3, 2, 2)); self.v = nn.Parameter(torch.randn(10, 4 * 16 * 16))")
    )  # fmt: skip
    assert found["macs"] == 4 * 3 * 4 * 16 * 16 + 10 * 4 * 16 * 16
    assert (found["convolutions"], found["layer_calls"], found["depth"], found["relu"], found["first_stride"]) == (
        0, 2, 2, 1, 2,
    )  # fmt: skip


@pytest.mark.parametrize(
    "attend",
    [
        "F.scaled_dot_product_attention(t, t, t)",
        "F.dropout((t @ t.transpose(1, 2)).softmax(-1), 0.1, False) @ t",
        "torch.einsum('bqk,bkd->bqd', torch.softmax(torch.einsum('bqd,bkd->bqk', t, t), -1), t)",
    ],
)
def test_attention_written_in_any_way(attend):
    found = measured(net("nn.Identity()", f"t = x.flatten(2).transpose(1, 2); t = {attend}; return t.mean(1)"))
    assert found["attention"] == 1
    assert found["macs"] == 2 * 1024 * 1024 * 3


def test_multi_head_attention():
    forward = "t = x.flatten(2).transpose(1, 2); return self.body(t, t, t)[0].mean(1)"
    found = measured(net("nn.MultiheadAttention(3, 1, batch_first=True)", forward))
    assert (found["attention"], found["depth"]) == (1, 2)
    assert found["macs"] == 4 * 1024 * 3 * 3 + 2 * 1024 * 1024 * 3


@pytest.mark.parametrize(
    ("norm", "kind"),
    [("nn.BatchNorm2d(3)", 1), ("nn.LayerNorm(32)", 2), ("nn.GroupNorm(1, 3)", 3), ("nn.InstanceNorm2d(3)", 4)],
)
def test_normalisation(norm, kind):
    found = measured(net(f"nn.Sequential({norm}, nn.Conv2d(3, 4, 1), nn.Flatten())"))
    assert (found["normalisation"], found["normalisations"]) == (kind, 1)


def test_frozen_parameters_are_not_trained():
    found = measured(net("nn.Linear(3072, 10).requires_grad_(False)", "return self.body(x.flatten(1))"))
    assert (found["parameters"], found["trainable"]) == (30_730, 0)


@pytest.mark.parametrize(
    "body",
    [
        "class Mine(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.l = nn.Linear(3072, 10)\n"
        "    def forward(self, x): return self.l(x.flatten(1))\n",
        "class Mine(nn.Module):\n    def __init__(self, classes=10):\n        super().__init__()\n"
        "        self.l = nn.Linear(3072, classes)\n    def forward(self, x): return self.l(x.flatten(1))\n"
        "class Part(nn.Module):\n    def __init__(self, width):\n        super().__init__()\n",
        net("nn.Linear(3072, 10)", "return self.body(x.flatten(1))").replace("Net", "Mine"),
    ],
    ids=["no arguments", "defaults beside a part", "LEMUR's arguments"],
)
def test_the_only_class_that_fits_is_taken(body):
    found = measured(body)
    assert (found["parameters"], found["forward"]) == (30_730, 1)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("x = 1\n", "and no nn.Module class that can be built without arguments"),
        ("class A(nn.Module): pass\nclass B(nn.Module): pass\n", "and 2 nn.Module classes that can be built without"),
        ("class A(nn.Module):\n    def __init__(self, width): pass\n", "and no nn.Module class that can be built"),
    ],
)  # fmt: skip
def test_no_class_or_too_many(body, said):
    with pytest.raises(TypeError) as caught:
        measured(body)
    assert str(caught.value).startswith("it defines no class Net(in_shape, out_shape, prm, device), ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "before",
    [
        "self.rate = torch.linspace(0, 1, 3)[1].item()",
        "self.to('cpu')",
        "self.cpu()",
        "w = nn.Linear(4, 4); self.rates = w.weight.detach().numpy()",
        "assert prm['lr'] > 0 and prm['dropout'] >= 0 and prm['patch_size'] == 0.5",
    ],
)
def test_what_the_meta_device_cannot_do(before):
    found = measured(net("nn.Linear(3072, 10)", "return self.body(x.flatten(1))", before))
    assert (found["parameters"], found["macs"], found["forward"]) == (30_730, 30_720, 1)


def test_complex_images():
    found = measured(net("nn.Conv2d(3, 4, 3, dtype=torch.complex64)", "return self.body(x).abs().mean((2, 3))"))
    assert (found["forward"], found["macs"]) == (1, 4 * 3 * 9 * 30 * 30)


def test_a_batch_that_does_not_go_through():
    found = measured(net("nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(7, 10))"))
    assert (found["parameters"], found["forward"], found["macs"]) == (112 + 80, 0, None)
    assert {name for name, value in found.items() if value is None} == {
        one.name for one in NUMBERS.values() if one.passed
    }


def test_what_fails_raises():
    with pytest.raises(ZeroDivisionError):
        measured(net("1 / 0"))
