"""Shared by the jobs: runners, reference outputs, inputs and limits."""
