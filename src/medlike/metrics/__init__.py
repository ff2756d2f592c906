"""Retrieval, outlier and localisation metrics, exact under ties, and statistics by unit."""

from medlike.metrics.average_precision import average_precision
from medlike.metrics.localisation import hit_rate, iou, normalised_score
from medlike.metrics.outliers import aupr, auroc, detection_at, false_alarms_at, roc_curve
from medlike.metrics.ranking import (
    graded_ndcg,
    ndcg,
    precision_at,
    precision_recall_curve,
    recall_at,
    recall_gain,
    within_radius,
)
from medlike.metrics.retrieval import DEFAULT_K, RetrievalScores, score, score_codes, score_features
from medlike.metrics.statistics import Interval, bootstrap_interval, holm, paired_permutation
from medlike.metrics.ties import Relevance, TieCounts, feature_counts, hamming_counts, score_counts

__all__ = [
    "DEFAULT_K",
    "Interval",
    "Relevance",
    "RetrievalScores",
    "TieCounts",
    "aupr",
    "auroc",
    "average_precision",
    "bootstrap_interval",
    "detection_at",
    "false_alarms_at",
    "feature_counts",
    "graded_ndcg",
    "hamming_counts",
    "hit_rate",
    "holm",
    "iou",
    "ndcg",
    "normalised_score",
    "paired_permutation",
    "precision_at",
    "precision_recall_curve",
    "recall_at",
    "recall_gain",
    "roc_curve",
    "score",
    "score_codes",
    "score_counts",
    "score_features",
    "within_radius",
]
