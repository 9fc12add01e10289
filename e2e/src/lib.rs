//! The workshop of end-to-end tests.
