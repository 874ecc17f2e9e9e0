"""Every backend gives einsum's numbers where it can run; what cannot is lowered, and not run."""

import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlm.models import DistilBertConfig, apply, create
from mlm.models.attention import _splash, attend, attention_groups, attention_mask, visibility
from mlm.training.loss import masked_cross_entropy

KEY = jax.random.key(0)
LENGTH = 256
SEGMENTS = jnp.asarray([[1] * 100 + [2] * 90 + [0] * 66, [1] * 256], jnp.int32)
PACKED = {"segment_ids": SEGMENTS, "padding_mask": SEGMENTS > 0}
PADDED = {"padding_mask": SEGMENTS > 0}


def inputs(dtype=jnp.float32):
    shape = (2, LENGTH, 2, 64)
    return [jax.random.normal(jax.random.fold_in(KEY, i), shape, dtype) for i in range(3)]


def in_kernel(query, keys, value, batch):
    return _splash(query, keys, value, attention_groups(batch), interpret=True)


def as_backend(name):
    def run(query, keys, value, batch):
        return attend(query, keys, value, visibility(batch, name), backend=name)

    return run


def with_gradients(run, batch, arrays):
    """What real queries get, and the gradients of a sum over them."""
    real = batch.get("padding_mask", jnp.ones((2, LENGTH), bool))[..., None, None]

    def total(*arrays):
        mixed = jnp.where(real, run(*arrays, batch), 0)
        return (mixed.astype(jnp.float32) ** 2).sum(), mixed

    gradients, mixed = jax.jit(jax.grad(total, (0, 1, 2), has_aux=True))(*arrays)
    return [mixed, *gradients]


@pytest.mark.parametrize("batch", [PACKED, PADDED, {}], ids=["packed", "padded", "whole"])
@pytest.mark.parametrize("run", [as_backend("xla"), in_kernel], ids=["xla", "splash"])
def test_a_backend_gives_the_numbers_of_einsum(run, batch):
    # Splash's kernel runs here as plain JAX; on a TPU it has not run.
    for dtype, tolerance in ((jnp.float32, 1e-5), (jnp.bfloat16, 1e-2)):
        wanted = with_gradients(as_backend("einsum"), batch, inputs(dtype))
        for ours, theirs in zip(with_gradients(run, batch, inputs(dtype)), wanted, strict=True):
            ours, theirs = (np.asarray(x, np.float32) for x in (ours, theirs))
            assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


def lowered(backend, platform, arrays):
    run = as_backend(backend)

    def total(*arrays):
        return run(*arrays, PACKED).astype(jnp.float32).sum()

    step = jax.jit(jax.grad(total, (0, 1, 2))).trace(*arrays)
    return step.lower(lowering_platforms=(platform,)).as_text()


def test_splash_lowers_for_a_tpu():  # lowered, not run
    assert lowered("splash", "tpu", inputs()).count("tpu_custom_call") >= 3


def test_cudnn_lowers_for_a_gpu(monkeypatch):  # lowered, not run
    # Without a GPU's libraries jax does not know cuDNN's version, which this asks for.
    found = types.SimpleNamespace(cudnn_get_version=lambda: 91000)
    monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.cuda_versions", found)
    text = lowered("cudnn", "cuda", inputs(jnp.bfloat16))
    assert "__cudnn$fmhaScaleBiasSoftmax(" in text and "SoftmaxBackward(" in text
    batch = {"padding_mask": PADDED["padding_mask"]}  # a mask that broadcasts over queries
    run = jax.jit(lambda *arrays: as_backend("cudnn")(*arrays, batch))
    lines = run.trace(*inputs(jnp.bfloat16)).lower(lowering_platforms=("cuda",)).as_text()
    assert "2x1x256x256xbf16" in lines


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_einsum_and_xla_lower_everywhere(platform):
    for backend in ("einsum", "xla"):
        assert "custom_call" not in lowered(backend, platform, inputs(jnp.bfloat16))


def test_groups_show_real_queries_what_the_mask_shows():
    for batch in (PACKED, PADDED, {"segment_ids": SEGMENTS}):
        groups, visible = attention_groups(batch), attention_mask(batch)
        same = groups[:, :, None] == groups[:, None, :]
        visible = jnp.broadcast_to(visible[:, 0], same.shape)
        real = batch.get("padding_mask", jnp.ones_like(SEGMENTS, bool))
        assert np.array_equal(same[real], visible[real])
    assert attention_groups({}) is None


@pytest.mark.parametrize(
    ("backend", "shape", "options", "words"),
    [
        ("xla", (1, 8, 1, 8), {"rate": 0.1, "key": KEY}, "no dropout"),
        ("cudnn", (1, 8, 1, 8), {}, "takes bfloat16, not float32"),
        ("splash", (1, 100, 1, 8), {}, "a multiple of 128 tokens, not 100"),
    ],
)
def test_what_a_backend_cannot_do_is_refused(backend, shape, options, words):
    x = jnp.zeros(shape)
    with pytest.raises(ValueError, match=words):
        attend(x, x, x, None, backend=backend, **options)


def test_cudnn_takes_even_rows_and_narrow_heads():
    for shape, words in (((1, 7, 1, 8), "even length, not 7"), ((1, 8, 1, 12), "wide, not 12")):
        x = jnp.zeros(shape, jnp.bfloat16)
        with pytest.raises(ValueError, match=words):
            attend(x, x, x, None, backend="cudnn")


@pytest.mark.parametrize("remat", ["none", "layers"])
def test_in_bfloat16_only_products_are(remat):
    config = DistilBertConfig(50, 1, 16, 2, 32, 8, dtype="bfloat16", remat=remat)
    graphdef, params = create(config, KEY)
    batch = {
        "token_ids": jnp.ones((2, 8), jnp.int32),
        "mask_positions": jnp.ones((2, 3), jnp.int32),
    }

    def loss(params):
        logits = apply(graphdef, params, batch, key=KEY)
        assert logits.dtype == jnp.float32
        return masked_cross_entropy(logits, batch["mask_positions"], jnp.ones((2, 3))).loss

    program = str(jax.make_jaxpr(jax.grad(loss))(params))
    types = lambda name: set(re.findall(rf":(\w+)\[([\d,]*)\] = {name}\b", program))  # noqa: E731
    # Of the softmax and of the loss; GELU, whose derivative is an exponential, is in bfloat16.
    assert {("f32", "2,2,8,8"), ("f32", "2,3,50")} <= types("exp")
    assert not {("bf16", "2,2,8,8"), ("bf16", "2,3,50")} & types("exp")
    assert {kind for kind, _ in types("rsqrt") | types("log")} == {"f32"}
    assert "bf16" in {kind for kind, _ in types("dot_general")}
    gradients = jax.eval_shape(jax.grad(loss), params)
    assert {x.dtype for x in jax.tree.leaves((params, gradients))} == {jnp.dtype("float32")}
