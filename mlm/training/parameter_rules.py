"""Which axis of which parameter is split over the mesh, and how a model uses what is split.

`tensor` goes by the path of a leaf. The kernels of query, key and value, and the first one of the
feed-forward, are split by columns, those that follow them by rows, so that between the two every
device works on its own heads and hidden units and one sum ends the block (Megatron-LM). The word
embedding is split by its vocabulary or, where that does not divide, by its width; then, as by
`fsdp`, to save memory alone: a step gathers it.

`fsdp` goes by shape: the largest axis that it divides and `tensor` has left, the first one of
equals. Nothing is padded: 30,522 rows divide by neither 4 nor 8, and their width of 768 does, while
rows of padding would change shapes in checkpoints and stand among the candidates. Vectors, biases
and layer norms, stay whole: splitting them saves little and costs a collective each.

Leaves that no rule splits are whole on each device.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from mlm.training.freezing import leaf_paths
from mlm.training.sharding import keep_rows, splits_params

Params = dict

# Pattern of a whole path -> axes of the leaf, of which the first that divides is split. By the
# first one devices can compute with their part.
TENSOR_RULES: tuple[tuple[str, tuple[int, ...]], ...] = (
    (r".*/attention/(query|key|value)/kernel", (1,)),
    (r".*/attention/(query|key|value)/bias", (0,)),
    (r".*/attention/out/kernel", (0,)),
    (r".*/feed_forward/up/kernel", (1,)),
    (r".*/feed_forward/up/bias", (0,)),
    (r".*/feed_forward/down/kernel", (0,)),
    (r".*/embeddings/word", (0, 1)),
    (r"head/output_bias", (0,)),
)


def parameter_spec(path: str, shape: tuple[int, ...], mesh: Mesh | AbstractMesh) -> PartitionSpec:
    """How the leaf at `path` is split, such as `PartitionSpec('fsdp', 'tensor')`."""
    axes: list[str | None] = [None] * len(shape)
    tensor, fsdp = (mesh.shape.get(name, 1) for name in ("tensor", "fsdp"))
    if tensor > 1:
        for i in _tensor_axes(path):
            if i < len(shape) and shape[i] % tensor == 0:
                axes[i] = "tensor"
                break
    if fsdp > 1 and len(shape) > 1:
        free = [i for i, n in enumerate(shape) if axes[i] is None and n and n % fsdp == 0]
        if free:
            axes[max(free, key=lambda i: shape[i])] = "fsdp"
    return PartitionSpec(*axes) if any(axes) else PartitionSpec()


def parameter_shardings(params: Params, mesh: Mesh | AbstractMesh) -> Params:
    """A `NamedSharding` for every leaf of `params`, which may be abstract."""
    specs = [
        NamedSharding(mesh, parameter_spec(path, leaf.shape, mesh))
        for path, leaf in zip(leaf_paths(params), jax.tree.leaves(params), strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(params), specs)


def state_shardings(state: Any, mesh: Mesh | AbstractMesh) -> Any:
    """A `NamedSharding` for every leaf of a train state, which may be abstract.

    A leaf of the optimizer lies like the parameter whose path its own ends with, if it has that
    shape (moments, say). Counts, averages of rows and columns (Adafactor), the mask table and
    recent losses are whole on each device.
    """
    shapes = dict(zip(leaf_paths(state.params), jax.tree.leaves(state.params), strict=True))

    def like_its_parameter(path, leaf) -> NamedSharding:
        found = _parameter_of(jax.tree_util.keystr(path, simple=True, separator="/"), shapes)
        same = found is not None and shapes[found].shape == leaf.shape
        return NamedSharding(
            mesh, parameter_spec(found, leaf.shape, mesh) if same else PartitionSpec()
        )

    whole = NamedSharding(mesh, PartitionSpec())
    return state._replace(
        step=whole,
        params=parameter_shardings(state.params, mesh),
        opt_state=jax.tree_util.tree_map_with_path(like_its_parameter, state.opt_state),
        mask_table=jax.tree.map(lambda _: whole, state.mask_table),
        recent_losses=jax.tree.map(lambda _: whole, state.recent_losses),
    )


def on_mesh(apply: Callable[..., jax.Array], mesh: Mesh) -> Callable[..., jax.Array]:
    """`apply` for params that lie on the mesh by the rules here; the same values.

    Each leaf is gathered from its parts before it is used, but for those that devices compute with
    by themselves, and its gradient goes back into them. Left to itself the compiler may gather the
    rows of all devices instead, and compute with a part of the parameter.
    """
    if not splits_params(mesh):
        return apply

    def applied(params: Params, batch: Mapping[str, jax.Array], **given) -> jax.Array:
        leaves = zip(leaf_paths(params), jax.tree.leaves(params), strict=True)
        whole = [_gathered(path, leaf, mesh) for path, leaf in leaves]
        params = jax.tree.unflatten(jax.tree.structure(params), whole)
        return keep_rows(mesh, apply(params, batch, **given), whole=False)

    return applied


def _gathered(path: str, leaf: jax.Array, mesh: Mesh) -> jax.Array:
    spec, own = parameter_spec(path, leaf.shape, mesh), _tensor_axes(path)[:1]
    used = [a if a == "tensor" and i in own else None for i, a in enumerate(spec)]
    if tuple(spec) == tuple(used):
        return leaf
    kept, whole = (NamedSharding(mesh, s) for s in (spec, PartitionSpec(*used)))

    @jax.custom_vjp
    def gather(x):
        return jax.lax.with_sharding_constraint(x, whole)

    def scatter(_, gradient):
        # Whole first: told only the end, the compiler splits what the gradient is computed from.
        gradient = jax.lax.with_sharding_constraint(gradient, whole)
        return (jax.lax.with_sharding_constraint(gradient, kept),)

    # By default a gradient would stay whole on each device, as its parameter was.
    gather.defvjp(lambda x: (gather(x), None), scatter)
    return gather(leaf)


def _tensor_axes(path: str) -> tuple[int, ...]:
    return next((axes for pattern, axes in TENSOR_RULES if re.fullmatch(pattern, path)), ())


def _parameter_of(path: str, params: Mapping[str, Any]) -> str | None:
    """The path of the parameter that an optimizer's leaf belongs to, `0/mu/` before it or so."""
    names = path.split("/")
    ends = ("/".join(names[i:]) for i in range(len(names)))
    return next((end for end in ends if end in params), None)
