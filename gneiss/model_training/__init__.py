"""Training your own models: classifiers (fastText, pooled networks, heads of encoders), KenLM and fusion models."""

from gneiss.model_training.classifier import train_category, train_quality
from gneiss.model_training.encoder.adapters import train_encoder_adapters
from gneiss.model_training.encoder.target_training import train_encoder_targets
from gneiss.model_training.encoder.training import train_encoder
from gneiss.model_training.fusion.training import train_fusion
from gneiss.model_training.models import Classifier, LanguageModel, PooledSettings, Settings
from gneiss.model_training.perplexity import train_perplexity
from gneiss.model_training.pooled.training import train_pooled

__all__ = [
    "Classifier",
    "LanguageModel",
    "PooledSettings",
    "Settings",
    "train_category",
    "train_encoder",
    "train_encoder_adapters",
    "train_encoder_targets",
    "train_fusion",
    "train_perplexity",
    "train_pooled",
    "train_quality",
]
