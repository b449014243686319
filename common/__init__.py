"""What every room needs and none owns: errors a user can act on, and files that are never half-written."""
