"""What users import: `Collection`, `TenantCollection` and what they answer. Begin with `collection`."""
