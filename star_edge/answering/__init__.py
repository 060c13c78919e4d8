"""A model's greedy answers to a suite: by transformers, by vLLM, or by an exported file on its own runtime."""
