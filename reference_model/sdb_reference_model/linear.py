"""Linear layers for inference alone, in the place of the ones that they are made of.

Place in the flow: `Transformer.pack` and `Transformer.quantise` put them there, for good.
"""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from sdb_kernels.fp8 import Fp8Weight, quantise
from sdb_kernels.packed import PackedWeight

if TYPE_CHECKING:
    from sdb_reference_model.model import Transformer

INFERENCE_ONLY = (
    "these weights were packed or quantised, for good and for inference only; load the model again "
    "to train, save, pack or quantise it"
)


class PackedLinear(nn.Module):
    """Weights laid out for this processor, see `sdb_kernels.packed`."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight, self.bias = PackedWeight(weight), bias

    def forward(self, x: Tensor) -> Tensor:
        return self.weight.multiply(x, self.bias)


class QuantisedLinear(nn.Module):
    """Weights rounded to e4m3, see `sdb_kernels.fp8`; they move with the model, uncast."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        rounded = quantise(weight)
        self.register_buffer("values", rounded.values)
        self.register_buffer("scale", rounded.scale)
        self.bias = bias

    @property
    def weight(self) -> Fp8Weight:
        """What operators multiply by."""
        return Fp8Weight(self.get_buffer("values"), self.get_buffer("scale"))

    def forward(self, x: Tensor) -> Tensor:
        product = self.weight.multiply(x)
        return product if self.bias is None else product + self.bias


def replace_linears(model: "Transformer", make: type[PackedLinear] | type[QuantisedLinear]) -> None:
    """Make head and body of `model` for inference; a tied head becomes a copy of the embedding.

    Raises:
        ValueError: it was done already, or a weight does not fit.
    """
    head = make(model.head_weight.float(), None)
    if not model.config.tie_embeddings:
        del model.head
    model.inference_head = head
    for block in model.blocks:
        for part in block.children():
            for name, module in list(part.named_children()):
                if isinstance(module, nn.Linear):
                    setattr(part, name, make(module.weight, module.bias))
