"""Collectives of hand-made HLO, in the forms that libtpu 0.0.52 and jax 0.10 write."""

from mlm.planning.collectives import Collective, read_collectives

MODULE = """HloModule jit_train_step, is_scheduled=true, num_partitions=8

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%body.1 (p: (s32[], f32[16,4])) -> (s32[], f32[16,4]) {
  %p = (s32[]{:T(128)}, f32[16,4]{1,0:T(8,128)S(1)}) parameter(0)
  %all-reduce.1 = (f32[16,4]{1,0:T(8,128)}, /*index=1*/bf16[8]{0}) all-reduce(%a, %b), channel_id=1, replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0'}, to_apply=%add
}

%condition.1 (p: (s32[], f32[16,4])) -> pred[] {
  %limit = s32[]{:T(128)} constant(3)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %limit), direction=LT
}

%body.2 (p: f32[4]) -> f32[4] {
  %inner = f32[10]{0} all-gather(%q), channel_id=2, replica_groups=[4,2]<=[8], dimensions={0}
}

%condition.2 (p: f32[4]) -> pred[] {
  ROOT %any = pred[] custom-call(%p)
}

%part.1 (q: f32[2]) -> f32[8] {
  ROOT %all-gather.5 = f32[8]{0} all-gather(%q), channel_id=7, replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}
}

%part.2 (q: f32[2]) -> f32[8] {
  ROOT %all-gather.6 = f32[8]{0} all-gather(%q), channel_id=7, replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}
}

ENTRY %main.1 (state: f32[16,4]) -> f32[16,4] {
  %w1 = (s32[], f32[16,4]) while(%t), condition=%condition.1, body=%body.1, metadata={op_name="while all-reduce(x)"}
  %w2 = f32[4]{0} while(%t), condition=%condition.2, body=%body.2
  %w3 = f32[4]{0} while(%t), condition=%condition.2, body=%body.2, backend_config={"known_trip_count":{"n":"5"}}
  %f1 = f32[8]{0} fusion(%state), kind=kCustom, calls=%part.1
  %f2 = f32[8]{0} fusion(%state), kind=kCustom, calls=%part.2
  %rs = f32[2]{0} reduce-scatter(%state), channel_id=8, replica_groups={}, dimensions={0}, to_apply=%add
  %start = (f32[1]{0}, f32[8]{0}) all-gather-start(%state), channel_id=9, replica_groups=[1,8]<=[8], dimensions={0}
  %done = f32[8]{0} all-gather-done(%start)
  %shift = (u8[100]{0}, u8[100]{0}, u32[], u32[]) collective-permute-start(%state), source_target_pairs={{0,1},{1,0}}
  %send = (f32[64]{0}, u32[], token[]) send(%state, %after), channel_id=9, is_host_transfer=true
  %sent = token[] send-done(%send), channel_id=9, is_host_transfer=true
}
"""  # noqa: E501


def test_what_is_counted_and_how_often():
    found = {(c.kind, c.devices): c for c in read_collectives(MODULE, 8)}
    loop = 16 * 4 * 4 + 8 * 2  # bytes of a run, and there are three
    assert found.pop(("all-reduce", 4)) == Collective(
        "all-reduce", 4, 3, 3 * loop, 3 * loop * 2 * 3 / 4
    )
    # Once for a loop that nobody knows the length of, five times for the other.
    assert found.pop(("all-gather", 2)) == Collective("all-gather", 2, 6, 240, 120.0, unbounded=1)
    assert found.pop(("all-gather", 4)) == Collective("all-gather", 4, 1, 32, 24.0)  # two parts
    assert found.pop(("all-gather", 8)) == Collective("all-gather", 8, 1, 32, 28.0)
    assert found.pop(("reduce-scatter", 8)) == Collective("reduce-scatter", 8, 1, 64, 56.0)
    assert found.pop(("collective-permute", 0)) == Collective("collective-permute", 0, 1, 100, 100)
    assert found.pop(("send to slices", 0)) == Collective("send to slices", 0, 1, 256, 256)
    assert not found


def test_groups_along_a_part_of_an_axis():
    line = "  %r = f32[4]{0} all-reduce(%x), replica_groups=mesh['x'=8,'y'=2] {'x':(1)4,'y'}\n"
    [found] = read_collectives("ENTRY %main (x: f32[4]) -> f32[4] {\n" + line + "}\n", 16)
    assert found.devices == 8


def test_a_module_without_any():
    assert (
        read_collectives("ENTRY %main (x: f32[]) -> f32[] {\n  ROOT %x = f32[] add()\n}", 8) == []
    )
