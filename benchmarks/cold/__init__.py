"""The first start after `up`, with nothing to fork from yet, against a plain start."""
