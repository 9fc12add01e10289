//! Benchmarks: ratios in one interleaved run, never asserted in timed tests.
