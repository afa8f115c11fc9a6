"""Accuracy under conditions, such as corruptions: scores, their statistics, and a study of corruptions."""
