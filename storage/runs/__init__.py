"""Runs: a transaction that happens exactly once, and the record that each one leaves."""

from storage.runs.transaction import Job, Outcome, Provenance, Run, commit_once

__all__ = ["Job", "Outcome", "Provenance", "Run", "commit_once"]
