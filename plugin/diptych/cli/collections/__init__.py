"""Commands on collections and their documents."""
