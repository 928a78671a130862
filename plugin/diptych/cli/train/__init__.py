"""Commands that train encoders and list recipes."""
