"""Training your own models: fastText classifiers and heads of encoders from labelled text, KenLM and fusion models."""

from gneiss.model_training.classifier import train_category, train_quality
from gneiss.model_training.encoder import train_encoder
from gneiss.model_training.fusion import train_fusion
from gneiss.model_training.models import Classifier, LanguageModel, Settings
from gneiss.model_training.perplexity import train_perplexity

__all__ = [
    "Classifier",
    "LanguageModel",
    "Settings",
    "train_category",
    "train_encoder",
    "train_fusion",
    "train_perplexity",
    "train_quality",
]
