"""An example of a diptych adapter that lives in a package of its own."""
