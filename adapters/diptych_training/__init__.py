"""Training recipes for the encoders that diptych serves. Losses and recipes arrive with the next releases."""
