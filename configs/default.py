"""DistilBERT-shaped masked language model on your own text: the file to fork.

Command:   python train.py --config=configs/default.py --workdir=runs/mine \\
             --config.data.corpus=my.txt
Hardware:  an accelerator: on 2 CPU cores a step takes 20 s and 9 GiB, the whole run four days. It
           has not been run to the end; configs/quickstart.py is the size for a laptop.
Expect:    a loss below the unigram line that every evaluation prints (quickstart: by 1.20 nats).

A duration is written with any of four suffixes, `_steps`, `_epochs`, `_examples` or `_percent` (of
the whole run): `--config.train.total_epochs=3` takes the place of `train.total_steps`.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0  # initialisation, data order, dropout and training masks follow from it

    config.deterministic = False  # True: every bit repeats on GPUs too, at some cost in speed

    config.data = ConfigDict()
    config.data.corpus = "builtin:python_docs"  # or files, folders, globs, ..., between commas
    config.data.source = ""  # 'module:function' that yields documents, instead of the corpus
    config.data.document = "paragraph"  # of text: 'paragraph' (blank lines), 'line' or 'file'
    config.data.field = "text"  # of .jsonl, .parquet and datasets; of 'a,b' the first there is
    config.data.on_bad_bytes = "error"  # or 'replace': what is not UTF-8, by U+FFFD and counted
    config.data.heldout_fraction = 0.05  # share of documents kept for evaluation, chosen by hash
    config.data.heldout_corpus = ""  # evaluation text of its own, instead of that fraction
    config.data.drop_duplicates = False  # leave out documents that were there before
    config.data.tokenizer = ""  # a file or a checkpoint's folder; empty: trained on the text
    config.data.vocabulary_size = 8192  # of a trained tokenizer
    config.data.tokenizer_sample = 50_000_000  # characters it is trained on, chosen by hash
    config.data.lowercase = True  # of a trained tokenizer, or of vocab.txt
    config.data.new_tokens = ()  # words that are added to the vocabulary of a given tokenizer
    config.data.store = ""  # folder or URL of what `python -m mlm prepare --out` wrote
    config.data.cache_dir = ""  # for stores and packing plans; empty: the user's cache directory
    config.data.rows = "packed"  # 'packed', 'blocks' or 'document'
    config.data.length = 128  # L, tokens per row
    config.data.overlap = 0  # tokens that a piece of a long document repeats from the one before
    config.data.shares = ()  # of an epoch's rows, a number for each name in the corpus
    config.data.temperature = 1.0  # T, instead: shares in proportion to rows ** (1 / T)
    config.data.curriculum = "none"  # 'length', 'rarity': first visits go from easy rows to hard
    config.data.curriculum_visits = 1  # how often each row is visited so

    config.masking = ConfigDict()
    # What is selected whole: 'token', 'word', 'span' (of words), 'ngram' (of words), 'pmi'
    # (collocations of the text), 'external' (bitmaps of your own) or 'module:function'.
    config.masking.unit = "token"
    # A unit that the row's budget cannot hold: 'skip' it and go on with shorter ones, 'truncate'
    # it, or 'auto': cut spans and n-grams, whose lengths are drawn, and skip the others.
    config.masking.fit = "auto"
    config.masking.span_p = 0.2  # of the geometric law of a span's length (SpanBERT)
    config.masking.span_longest = 10  # words
    config.masking.ngram = (1, 3)  # words: the shortest and the longest; evenly in between
    config.masking.pmi_count = 10  # a collocation occurs more often than this in the text
    config.masking.units = ""  # folder with the bitmaps of 'external'

    # What is selected rather: 'uniform', 'frequency' (count ** -alpha), 'accuracy' or 'loss' (what
    # the model does badly so far), a table.npy of a weight per id, or 'module:function'.
    config.masking.weights = "uniform"
    config.masking.weights_alpha = 0.7  # DistilBERT's value
    config.masking.weights_decay = 0.99  # per update, of the averages behind 'accuracy' and 'loss'

    config.masking.rate = 0.15  # share of selectable tokens that are selected
    config.masking.count = "stochastic"  # how many per row: 'stochastic', 'exact' or 'bernoulli'
    config.masking.lowest_rate = placeholder(float)  # rows draw their rate from here up to the rate
    config.masking.prediction_rate = placeholder(float)  # predicted; None: all that is selected
    config.masking.mask_selection_length = placeholder(int)  # P slots; None: what the rate needs
    config.masking.mask_token_rate = 0.8  # share of the selected tokens shown as [MASK]
    config.masking.random_token_rate = 0.1  # share shown as a random id; the rest is kept
    config.masking.random_ids = "selectable"  # 'vocabulary': special ones too; 'unigram': by count
    config.masking.random_ids_alpha = 1.0  # 'unigram' draws by count ** alpha
    config.masking.select_unknown = True  # whether [UNK] may be selected and predicted
    config.masking.patterns = 0  # 0: new masks at each visit of a row; k: visit n has masks n % k

    # How rate and split go through the run: 'constant', 'linear', 'cosine', 'step', 'reversed'
    # (linear, from the final values) or 'module:function'.
    config.masking.schedule = "constant"
    config.masking.stages = 2  # equal parts of the run with a value each, of 'step'
    config.masking.final_rate = placeholder(float)  # None: the rate stays
    config.masking.final_mask_token_rate = placeholder(float)
    config.masking.final_random_token_rate = placeholder(float)

    config.model = ConfigDict()
    # Weights to start from: a name, a folder or a workdir. They decide the sizes from here to
    # head_epsilon, and the tokenizer; what stands here for them is not used then.
    config.model.init_from = ""
    config.model.custom = ""  # 'module:function' that makes another model
    config.model.layers = 6  # encoder layers
    config.model.width = 256  # D
    config.model.heads = 4  # must divide the width
    config.model.hidden = 1024  # width of the feed-forward layer
    config.model.max_length = 512  # rows of the position table
    config.model.epsilon = 1e-12  # of the encoder's layer norms
    config.model.head_epsilon = 1e-12  # of the layer norm in the MLM head; KerasHub uses 1e-5
    config.model.dropout = 0.1  # after the embeddings and the feed-forward layers
    config.model.attention_dropout = 0.1  # on attention probabilities
    config.model.dtype = "float32"  # of matrix products: 'float32' or 'bfloat16'
    # 'auto': 'cudnn' on NVIDIA GPUs and 'splash' on a TPU where they can run, else 'einsum', which
    # alone has attention dropout. Also 'xla'. All give the same numbers.
    config.model.attention = "auto"

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"  # any optimizer of optax
    # Its other arguments; RoBERTa's values. Weight decay leaves biases and layer norms alone.
    config.optimizer.args = ConfigDict({"b1": 0.9, "b2": 0.98, "eps": 1e-6, "weight_decay": 0.01})
    config.optimizer.learning_rate = 5e-4  # at the end of the warm-up
    config.optimizer.schedule = "linear"  # after the warm-up: 'linear' or 'cosine' to 0, 'constant'
    config.optimizer.warmup_percent = 6.0  # of the run, from near 0 up to the learning rate
    config.optimizer.clip_norm = 1.0  # global gradient norm; 0: no clipping

    config.train = ConfigDict()
    config.train.total_steps = 20_000  # updates
    config.train.batch_size = 256  # rows per step, over all devices
    config.train.accumulation = 1  # microbatches per step; the result is that of one big batch
    # For less memory on an accelerator, what a gradient computes again: 'none', 'layers' (all but
    # the input of each), or 'dots' (all but that and the results of their matrix products).
    config.train.remat = "none"
    config.train.loss = ""  # 'module:function' of logits and labels; empty: cross-entropy
    config.train.max_nonfinite_in_a_row = 5  # losses or gradients; fewer are skipped, that many end
    config.train.skip_spikes = False  # True: no update where the loss is far above those before
    # After which a step hangs: the run ends with exit code 75. None: 10 times the median of its
    # steps, 60 or more. The first one has 300 more, to compile.
    config.train.step_timeout_seconds = placeholder(float)
    config.train.freeze = ()  # patterns of whole parameter paths that stay, such as 'backbone/.*'

    # How devices share the work: their numbers multiply to all there are; -1: what is left of them.
    # Rows of a batch are split over slices x data x fsdp, see docs/sharding.md.
    config.mesh = ConfigDict()
    config.mesh.data = -1  # whole replicas of the model
    config.mesh.fsdp = 1  # replicas that keep a part of every matrix each, and gather it for a step
    config.mesh.tensor = 1  # devices that share heads, hidden layers and the vocabulary
    config.mesh.slices = 1  # groups of devices that only a network connects, such as TPU slices

    config.processes = ConfigDict()  # limits of time where several train as one
    config.processes.init_timeout_seconds = 300  # for all to come; hosts start minutes apart
    config.processes.heartbeat_timeout_seconds = 100  # of a host that is silent, e.g. without power
    config.processes.shutdown_timeout_seconds = 30  # at the end, once all are done

    config.log = ConfigDict()
    config.log.every_steps = 50  # a line in metrics.jsonl and on the screen
    config.log.peak_flops = placeholder(float)  # of a device per second; None: as its maker says
    config.log.tensorboard = True  # event files beside metrics.jsonl

    config.checkpoint = ConfigDict()
    config.checkpoint.every_steps = 1000  # also at the end, and on SIGTERM or Ctrl-C
    config.checkpoint.keep_last = 2  # newest checkpoints that stay
    config.checkpoint.keep_best = 1  # and those with the least loss on the first of eval.masks

    config.eval = ConfigDict()
    config.eval.every_steps = 1000  # also at the end
    config.eval.length = 128  # tokens per row, whatever the training rows are
    config.eval.batch_size = 256  # rows
    config.eval.max_examples = 4096  # rows of the held-out set that are used, from its beginning
    config.eval.seed = 0  # of the frozen masks
    config.eval.masks = ()  # 'unit@rate', ...; empty: 'token@0.15' and those of training
    config.eval.fill = ()  # texts with [MASK], completed at the end of the run

    return config.lock()
