"""What Hugging Face's DistilBERT and BERT call the tensors that our parameters are.

The names are those that transformers 4.57 and 5.24 write. Both models are one architecture here,
because BERT's token types become part of the position table when it is loaded.
"""

import dataclasses
import re
from collections.abc import Mapping

import jax

from mlm.conversion.loaded import leaf_name
from mlm.models.masked_lm import Params

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
OLD_LEAVES = {"gamma": "weight", "beta": "bias"}  # of layer norms, as TensorFlow named them


@dataclasses.dataclass(frozen=True)
class Family:
    """The names of one kind of model, as its masked language model stores them."""

    prefix: str  # of the encoder's tensors; a checkpoint of the encoder alone has none
    names: Mapping[str, str]  # ours to theirs, * being the layer's number
    tied: Mapping[str, str]  # a copy that may be stored as well, and of what
    buffers: tuple[str, ...]  # that are stored at times and follow from config.json
    extras: Mapping[str, str]  # how the tensors begin that other tasks need, and what they are
    token_types: str | None = None  # the table whose first row belongs to every position

    def bare(self) -> "Family":
        """The names in a checkpoint of the encoder alone."""

        def strip(name: str) -> str:
            return name.removeprefix(self.prefix)

        return Family(
            prefix="",
            names={ours: strip(theirs) for ours, theirs in self.names.items()},
            tied={copy: strip(source) for copy, source in self.tied.items()},
            buffers=tuple(map(strip, self.buffers)),
            extras={strip(start): what for start, what in self.extras.items()},
            token_types=self.token_types and strip(self.token_types),
        )

    def place(self, path: tuple) -> tuple[str, bool]:
        """The name of a leaf of our parameters, and whether it is stored transposed."""
        ours = leaf_name(path)
        number = re.search(r"\d+", ours)
        starred = re.sub(r"\d+", "*", ours)
        if starred in self.names:
            return self.names[starred], False
        module, _, leaf = starred.rpartition("/")
        name = f"{self.names[module]}.{LEAVES[leaf]}"
        return name.replace("*", number[0]) if number else name, leaf == "kernel"

    def extra(self, name: str) -> str | None:
        """What a tensor that ours has no place for belongs to; None when that is not known."""
        return next((what for start, what in self.extras.items() if name.startswith(start)), None)

    def in_head(self, name: str) -> bool:
        """Whether a tensor is one by which a checkpoint shows that it has its MLM head."""
        head = (theirs for ours, theirs in self.names.items() if ours.startswith("head/"))
        return name.startswith((*head, *self.tied))


DISTILBERT = Family(
    prefix="distilbert.",
    names={
        "backbone/embeddings/word": "distilbert.embeddings.word_embeddings.weight",
        "backbone/embeddings/position": "distilbert.embeddings.position_embeddings.weight",
        "backbone/embeddings/norm": "distilbert.embeddings.LayerNorm",
        "backbone/layers/*/attention/query": "distilbert.transformer.layer.*.attention.q_lin",
        "backbone/layers/*/attention/key": "distilbert.transformer.layer.*.attention.k_lin",
        "backbone/layers/*/attention/value": "distilbert.transformer.layer.*.attention.v_lin",
        "backbone/layers/*/attention/out": "distilbert.transformer.layer.*.attention.out_lin",
        "backbone/layers/*/attention_norm": "distilbert.transformer.layer.*.sa_layer_norm",
        "backbone/layers/*/feed_forward/up": "distilbert.transformer.layer.*.ffn.lin1",
        "backbone/layers/*/feed_forward/down": "distilbert.transformer.layer.*.ffn.lin2",
        "backbone/layers/*/feed_forward_norm": "distilbert.transformer.layer.*.output_layer_norm",
        "head/dense": "vocab_transform",
        "head/norm": "vocab_layer_norm",
        "head/output_bias": "vocab_projector.bias",
    },
    tied={"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"},
    buffers=("distilbert.embeddings.position_ids",),
    extras={
        "pre_classifier.": "the classifier",
        "classifier.": "the classifier",
        "qa_outputs.": "the question answering head",
    },
)

BERT = Family(
    prefix="bert.",
    names={
        "backbone/embeddings/word": "bert.embeddings.word_embeddings.weight",
        "backbone/embeddings/position": "bert.embeddings.position_embeddings.weight",
        "backbone/embeddings/norm": "bert.embeddings.LayerNorm",
        "backbone/layers/*/attention/query": "bert.encoder.layer.*.attention.self.query",
        "backbone/layers/*/attention/key": "bert.encoder.layer.*.attention.self.key",
        "backbone/layers/*/attention/value": "bert.encoder.layer.*.attention.self.value",
        "backbone/layers/*/attention/out": "bert.encoder.layer.*.attention.output.dense",
        "backbone/layers/*/attention_norm": "bert.encoder.layer.*.attention.output.LayerNorm",
        "backbone/layers/*/feed_forward/up": "bert.encoder.layer.*.intermediate.dense",
        "backbone/layers/*/feed_forward/down": "bert.encoder.layer.*.output.dense",
        "backbone/layers/*/feed_forward_norm": "bert.encoder.layer.*.output.LayerNorm",
        "head/dense": "cls.predictions.transform.dense",
        "head/norm": "cls.predictions.transform.LayerNorm",
        "head/output_bias": "cls.predictions.bias",
    },
    tied={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    buffers=("bert.embeddings.position_ids", "bert.embeddings.token_type_ids"),
    extras={
        "bert.pooler.": "the pooler",
        "cls.seq_relationship.": "the next sentence head",
        "classifier.": "the classifier",
        "qa_outputs.": "the question answering head",
    },
    token_types="bert.embeddings.token_type_embeddings.weight",
)


def modern(name: str) -> str:
    """A stored name with the layer norms' old `gamma` and `beta` as `weight` and `bias`."""
    module, _, leaf = name.rpartition(".")
    return f"{module}.{OLD_LEAVES[leaf]}" if leaf in OLD_LEAVES else name


def to_huggingface(params: Params, family: Family = DISTILBERT) -> dict[str, jax.Array]:
    """`params` (or gradients) by Hugging Face name, kernels as torch has them: outputs first."""
    tensors = {}
    for path, leaf in jax.tree.leaves_with_path(params):
        name, transposed = family.place(path)
        tensors[name] = leaf.T if transposed else leaf
    return tensors


def shapes(abstract: Params, family: Family = DISTILBERT) -> dict[str, tuple[int, ...]]:
    """The shape that each tensor of a model has when it is stored, by Hugging Face name."""
    tensors = jax.eval_shape(lambda params: to_huggingface(params, family), abstract)
    return {name: tensor.shape for name, tensor in tensors.items()}
