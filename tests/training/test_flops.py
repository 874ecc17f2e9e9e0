import pytest

from mlm.training.flops import peak_flops, train_step_flops

BASE = dict(layers=6, width=768, hidden=3072, vocabulary_size=30522)


@pytest.mark.parametrize(("length", "slots", "millions"), [(128, 20, 284.4), (512, 80, 305.6)])
def test_distilbert_base_per_token(length, slots, millions):
    flops = train_step_flops(rows=8, length=length, slots=slots, **BASE)
    assert flops / (8 * length) / 1e6 == pytest.approx(millions, abs=0.05)


def test_slots_alone_need_the_vocabulary():
    none, all_of_it = (train_step_flops(rows=1, length=128, slots=s, **BASE) for s in (0, 128))
    assert none / 128 / 1e6 == pytest.approx(261.9, abs=0.05)
    assert all_of_it / 128 / 1e6 == pytest.approx(406.1, abs=0.05)


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("TPU v5 lite", 197e12),
        ("TPU v5", 459e12),
        ("TPU v5p", 459e12),
        ("TPU v6 lite", 918e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA GB200", 2500e12),
        ("cpu", None),
    ],
)
def test_peaks_by_the_name_of_a_device(kind, peak):
    assert peak_flops(kind) == peak
