"""From a spec to records: plan, run, store."""
