//! Hostile input: attackers of our own, and the harnesses that fuzzing and the test command share.
