"""The commands of a swap: plan, apply, rollback, finish, status."""
