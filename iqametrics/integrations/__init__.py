"""Metrics in the tools of others: each module needs its tool, and nothing here is imported unasked."""
