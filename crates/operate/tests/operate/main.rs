//! Operations against fleets in temporary folders. Nothing runs in them: the program is one that ends at once.

mod bad_input;
mod changes;
mod stage;
