"""What those who run a process of ours look at: its health, its counts and its log."""
