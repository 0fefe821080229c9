"""What is true: policy, facts, lifecycles, rulings and decisions. No clock, no disk, no network."""
