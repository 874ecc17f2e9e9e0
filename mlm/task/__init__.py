"""`DistilBertMaskedLM`: a masked language model as an object for notebooks, over all rooms.

masked_lm.py      the object: fit, evaluate, predict
preset_model.py   what it is before it learns: load, call, fill in, save
backbone.py       its encoder, with KerasHub's names
preprocessor.py   from texts to rows
examples.py, features.py   what may be given to it, checked at the border
fitting.py, scoring.py     epochs over rows in memory, and what is measured

masked_lm = DistilBertMaskedLM.from_preset("distil_bert_base_en_uncased")
masked_lm.fit(x=["The quick brown fox jumped.", "I forgot my homework."], batch_size=2)
"""

from mlm.task.backbone import DistilBertBackbone
from mlm.task.masked_lm import DistilBertMaskedLM
from mlm.task.preprocessor import DistilBertMaskedLMPreprocessor

__all__ = ["DistilBertBackbone", "DistilBertMaskedLM", "DistilBertMaskedLMPreprocessor"]
