"""One file a reward; `star_edge.rl.reward` picks among them by name."""
