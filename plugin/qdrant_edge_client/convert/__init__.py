"""Between qdrant-client's models and Qdrant Edge's objects, one module for each family."""
