"""Runs: a transaction that happens exactly once, and the record that each one leaves."""

from storage.runs.transaction import Outcome, Provenance, Run, commit_once

__all__ = ["Outcome", "Provenance", "Run", "commit_once"]
