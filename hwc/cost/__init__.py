"""Cost: what a group of nodes should take on a target; always an estimate."""
