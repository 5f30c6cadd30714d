"""What `make deploy-check` checks, one module for each part of deploy/. Each has check(root) -> report, and raises Faults."""
