"""transformers itself on one side of every folder: it needs an environment that has it, and torch.

Models are tiny, random in every parameter and made here; nothing is downloaded. The numbers are
compared at positions that are not padding.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

os.environ.setdefault("HF_HUB_OFFLINE", "1")
transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

from mlm.conversion import load_huggingface, save_huggingface  # noqa: E402
from mlm.errors import CheckpointError  # noqa: E402
from mlm.filling import fill_lines  # noqa: E402
from mlm.models import DistilBertConfig, create, create_abstract  # noqa: E402
from mlm.pretrained import load_pretrained  # noqa: E402

TOLERANCE = 1e-5
SIZES = {
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    "bert": {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    },
}
IDS = np.random.default_rng(0).integers(5, 90, (3, 24)).astype(np.int32)
REAL = np.arange(24) < np.array([[24], [15], [2]])
BATCH = {"token_ids": IDS, "padding_mask": REAL}


def random_peer(name, **settings):
    """A model of transformers by class name, in evaluation mode."""
    kind = "bert" if name.startswith("Bert") else "distilbert"
    config = transformers.AutoConfig.for_model(
        kind, vocab_size=90, max_position_embeddings=32, **SIZES[kind], **settings
    )
    torch.manual_seed(0)
    model = getattr(transformers, name)(config)
    for path, parameter in model.named_parameters():
        is_scale = "norm" in path.lower() and path.endswith("weight")
        parameter.data.normal_(1.0 if is_scale else 0.0, 0.2)
    model.tie_weights()
    return model.eval()


def outputs_of_peer(model):
    """Every hidden state and, where the model has a head for them, the logits."""
    with torch.no_grad():
        out = model(
            input_ids=torch.tensor(IDS.astype(np.int64)),
            attention_mask=torch.tensor(REAL.astype(np.int64)),
            output_hidden_states=True,
        )
    logits = out.get("prediction_logits", out.get("logits"))
    states = [state.numpy() for state in out.hidden_states]
    return states, None if logits is None else logits.numpy()


def outputs_of(loaded):
    graphdef, _ = create_abstract(loaded.config)

    @jax.jit
    def outputs(params, batch):
        model = nnx.merge(graphdef, params)
        return model.backbone.hidden_states(batch), model(batch)

    return outputs(loaded.params, BATCH)


def assert_close(ours, theirs, what):
    distance = np.abs(ours[REAL] - theirs[REAL]).max()
    print(f"{what}: {distance:.2g} of {np.abs(theirs[REAL]).max():.2g}")
    assert distance <= TOLERANCE


@pytest.mark.parametrize(
    "name, settings",
    [
        ("DistilBertForMaskedLM", {}),
        ("DistilBertForMaskedLM", {"sinusoidal_pos_embds": True}),
        ("DistilBertModel", {}),
        ("DistilBertForSequenceClassification", {}),
        ("DistilBertForQuestionAnswering", {}),
        ("BertForMaskedLM", {}),
        ("BertForMaskedLM", {"layer_norm_eps": 1e-3, "type_vocab_size": 1}),
        ("BertForPreTraining", {}),
        ("BertModel", {}),
        ("BertForSequenceClassification", {}),
    ],
)
@pytest.mark.parametrize("shard", ["1GB", "20KB"])
def test_what_it_saves_computes_the_same_here(tmp_path, name, settings, shard):
    peer = random_peer(name, **settings)
    peer.save_pretrained(tmp_path, max_shard_size=shard)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shard == "20KB")
    loaded = load_huggingface(tmp_path, key=jax.random.key(0))
    states, logits = outputs_of(loaded)
    expected_states, expected_logits = outputs_of_peer(peer)
    for n, (state, expected) in enumerate(zip(states, expected_states, strict=True)):
        assert_close(state, expected, f"{name} hidden state {n}")
    has_head = name in ("DistilBertForMaskedLM", "BertForMaskedLM", "BertForPreTraining")
    assert has_head == all("no MLM head" not in note for note in loaded.notes)
    if has_head:
        assert_close(logits, expected_logits, f"{name} logits")


@pytest.mark.parametrize("name", ["DistilBertForMaskedLM", "BertForMaskedLM"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_float_types(tmp_path, name, dtype):
    peer = random_peer(name).to(getattr(torch, dtype))
    peer.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=dtype):
        load_huggingface(tmp_path)
    _, logits = outputs_of(load_huggingface(tmp_path, cast=True))
    assert_close(logits, outputs_of_peer(peer.float())[1], f"{name} in {dtype}")


@pytest.mark.parametrize("name", ["DistilBertModel", "BertForMaskedLM"])
def test_the_line_that_converts_a_pickle(tmp_path, name):
    peer = random_peer(name)
    peer.config.architectures = [name]
    peer.config.save_pretrained(tmp_path)
    torch.save(peer.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError) as error:
        load_huggingface(tmp_path)
    command = shlex.split("python" + str(error.value).partition(": python")[2])
    subprocess.run([sys.executable, *command[1:]], check=True, capture_output=True)
    states, _ = outputs_of(load_huggingface(tmp_path, key=jax.random.key(0)))
    assert_close(states[-1], outputs_of_peer(peer)[0][-1], f"{name} from a pickle")


def load_in_peer(folder):
    peer, info = transformers.DistilBertForMaskedLM.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return peer.eval()


def test_what_we_save_computes_the_same_there(tmp_path):
    config = DistilBertConfig(
        90,
        layers=2,
        width=32,
        heads=4,
        hidden=64,
        max_length=32,
        dropout=0.3,
        attention_dropout=0.2,
        initializer_stddev=0.2,
    )
    _, params = create(config, jax.random.key(0))
    save_huggingface(tmp_path, config, params, pad_token_id=0)
    peer = load_in_peer(tmp_path)
    assert (peer.config.dropout, peer.config.attention_dropout) == (0.3, 0.2)
    assert peer.dtype == torch.float32
    ours, theirs = outputs_of(load_huggingface(tmp_path)), outputs_of_peer(peer)
    for n, (state, expected) in enumerate(zip(ours[0], theirs[0], strict=True)):
        assert_close(state, expected, f"exported hidden state {n}")
    assert_close(ours[1], theirs[1], "exported logits")
    again = tmp_path / "again"
    peer.save_pretrained(again)
    jax.tree.map(np.testing.assert_array_equal, load_huggingface(again).params, params)


def test_bert_goes_there_as_a_distilbert(tmp_path):
    bert = random_peer("BertForPreTraining")
    bert.save_pretrained(tmp_path / "bert")
    loaded = load_huggingface(tmp_path / "bert")
    (tmp_path / "distilbert").mkdir()
    save_huggingface(tmp_path / "distilbert", loaded.config, loaded.params, pad_token_id=0)
    _, logits = outputs_of_peer(load_in_peer(tmp_path / "distilbert"))
    assert_close(logits, outputs_of_peer(bert)[1], "logits of BERT in a DistilBERT")


# ---- python -m mlm convert -----------------------------------------------------------------------

KERAS = Path(__file__).parent.parent / "parity" / "kerashub_distilbert_tiny"
TEXTS = [
    "The old dog sees my neighbour, at school.",
    "Élan naïve word\u00a0two\tthree 中文 x_y don't \u200b",
    "the [MASK] likes [SEP]",
    "",
]


def convert(source, folder, *arguments):
    command = [sys.executable, "-m", "mlm", "convert", str(source), str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def logits_there_and_here(folder, found):
    """Of the same ids, in transformers from the folder and here from what it was made of."""
    peer = load_in_peer(folder).eval()
    ids = IDS[:, : found.config.max_length] % found.config.vocabulary_size
    mask = REAL[:, : found.config.max_length]
    with torch.no_grad():
        given = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask.astype(int))}
        there = peer(**{name: value.long() for name, value in given.items()}).logits.numpy()
    graphdef, _ = create_abstract(found.config)
    batch = {"token_ids": ids, "padding_mask": mask}
    return there[mask], np.asarray(nnx.merge(graphdef, found.params)(batch))[mask]


def assert_same_ids(folder, tokenizer):
    peer = transformers.AutoTokenizer.from_pretrained(folder)
    assert peer.mask_token_id == tokenizer.special.mask and peer.pad_token == "[PAD]"
    for text in TEXTS:
        encoded = peer(text)
        own = [tokenizer.special.cls, *tokenizer.encode_prompt(text), tokenizer.special.sep]
        assert encoded["input_ids"] == own, text
        assert "token_type_ids" not in encoded


def test_a_run_goes_there_and_back_by_the_command(saved_run, tmp_path):
    there, found = convert(saved_run, tmp_path / "there", "--to=huggingface"), load(saved_run)
    peer, ours = logits_there_and_here(there, found)
    distance = np.abs(peer - ours).max()
    print(f"logits of a run: {distance:.2g} of {np.abs(ours).max():.2g}")
    assert distance <= TOLERANCE
    assert_same_ids(there, found.tokenizer)

    saved = tmp_path / "saved"
    load_in_peer(there).save_pretrained(saved)
    transformers.AutoTokenizer.from_pretrained(there).save_pretrained(saved)
    back = load(convert(saved, tmp_path / "back", "--to=mlm"))
    jax.tree.map(np.testing.assert_array_equal, back.params, found.params)
    assert back.tokenizer.encode(TEXTS) == found.tokenizer.encode(TEXTS)


def test_its_pipeline_fills_masks_as_ours_does(saved_run, tmp_path):
    folder = convert(saved_run, tmp_path / "out", "--to=huggingface")
    text = "the [MASK] sees my neighbour."
    theirs = transformers.pipeline("fill-mask", model=str(folder))(text, top_k=96)
    [line] = fill_lines(str(saved_run), [text], top_k=96, as_json=True)
    [ours] = json.loads(line)["masks"]
    tokenizer = load(saved_run).tokenizer
    by_id = {tokenizer.backend.token_to_id(g["token"]): g["probability"] for g in ours}
    assert len(by_id) == len(theirs) == 96
    for guess in theirs:
        assert guess["score"] == pytest.approx(by_id[guess["token"]], abs=1e-6)


def test_a_keras_preset_goes_there_with_its_tokenizer(tmp_path):
    allow = "--allow_epsilon_change"
    folder, found = convert(KERAS, tmp_path / "out", "--to=huggingface", allow), load(KERAS)
    peer, ours = logits_there_and_here(folder, load(folder))
    print(f"logits of a KerasHub preset: {np.abs(peer - ours).max():.2g}")
    assert np.abs(peer - ours).max() <= TOLERANCE
    assert_same_ids(folder, found.tokenizer)
    transformers.pipeline("fill-mask", model=str(folder))("the [MASK]")


@pytest.mark.parametrize("cased", [False, True])
def test_bert_of_theirs_by_the_command(tmp_path, cased):
    """With a tokenizer of their own making, vocab.txt and tokenizer.json or the latter alone."""
    bert = random_peer("BertForMaskedLM")
    bert.save_pretrained(tmp_path / "bert")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "The", "old", "##s", "é", "e"]
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join([*pieces, *"abcdfghlnorstw"]), encoding="utf-8")
    peer = transformers.BertTokenizer(str(vocabulary), do_lower_case=not cased)
    peer.save_pretrained(tmp_path / "bert")
    folder = convert(tmp_path / "bert", tmp_path / "out", "--to=huggingface")
    found = load(tmp_path / "bert")
    there, ours = logits_there_and_here(folder, found)
    print(f"logits of BERT: {np.abs(there - ours).max():.2g}")
    assert np.abs(there - ours).max() <= TOLERANCE
    assert_same_ids(folder, found.tokenizer)
    assert [peer(text)["input_ids"] for text in TEXTS] == [
        transformers.AutoTokenizer.from_pretrained(folder)(text)["input_ids"] for text in TEXTS
    ]


def load(place):
    return load_pretrained(place, key=jax.random.key(0), say=str)
