"""Whole long videos: clips on a grid over them, the feature files that come of it, annotated segments, windows for training."""

from kinema.data.untrimmed.feature_data import FeatureData

__all__ = ["FeatureData"]
