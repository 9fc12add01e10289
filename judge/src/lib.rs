//! Differential tests: the same resources and the same bytes to a real Envoy and to our proxy.
