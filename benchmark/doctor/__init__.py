"""What a cluster or machine supports, found out by a probe."""
