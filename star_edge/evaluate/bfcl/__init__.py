"""BFCL's single-turn cases and their verdicts, read from the published `bfcl-eval` wheel at run time."""
