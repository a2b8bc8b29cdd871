"""The part of the small image–text model that reads words."""

import torch
import torch.nn.functional as F
from torch import nn

PAD = 0  # the token that is not there


class TextTower(nn.Module):
    """A convolution over neighbouring words, then a small transformer whose mean state stands for the sentence.

    Parameters
    ----------
    words, context : int
        Size of the vocabulary and most tokens of a sentence.
    width, layers, heads, dimension : int
        Of the transformer, and of its output.
    """

    def __init__(self, words, context, width, layers, heads, dimension):
        super().__init__()
        self.tokens = nn.Embedding(words, width)
        # Binds "without" to the word it is about; attention alone learns that very late on so little data.
        self.phrases = nn.Conv1d(width, width, 5, padding=2)
        self.positions = nn.Parameter(0.1 * torch.randn(context, width))
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.transformer = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, dimension, bias=False)

    def forward(self, tokens):
        """Map tokens (B, L), int64, padded with ``PAD``, to features (B, dimension)."""
        return self.encode(self.tokens(tokens), tokens == PAD)

    def encode(self, embeddings, padding):
        """Map token embeddings (B, L, width) to features (B, dimension); learned prompts come in here.

        Parameters
        ----------
        embeddings : torch.Tensor
            (B, L, width), before positions are added.
        padding : torch.Tensor
            (B, L), bool: which tokens are not there.
        """
        present = (~padding).unsqueeze(2)
        words = embeddings * present  # so that padding says nothing to its neighbours
        phrases = F.gelu(self.phrases(words.transpose(1, 2)).transpose(1, 2))
        x = words + phrases + self.positions[: words.shape[1]]
        states = self.transformer(x, src_key_padding_mask=padding) * present
        return self.head(states.sum(1) / present.sum(1))
