"""Graph passes: one verb_noun per file, ordered in pipeline, verified by base.run_pass."""
