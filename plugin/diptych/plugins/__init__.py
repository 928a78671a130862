"""What stands behind `Registry`: the catalogue of registered adapters, their factories and their extras."""
