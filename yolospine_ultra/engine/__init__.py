"""The host's engine with our parts: facade, trainer, validator, predictor."""
