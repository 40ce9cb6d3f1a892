"""Columns that rows of several evaluations have."""

from __future__ import annotations

OUTCOMES = {
    *("agree", "prediction_clean", "prediction_noised", "confidence_clean", "confidence_noised"),
    *("squared_feature_change", "squared_logit_change", "squared_probability_change", "max_abs_logit_change"),
}
CERTIFICATE = {"probability_change", "token_change", "largest_token_change"}
CHANGES = ["squared_feature_change", "squared_logit_change", "squared_probability_change", "max_abs_logit_change"]
