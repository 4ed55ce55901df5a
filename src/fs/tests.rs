//! The contract every driver keeps, and a model file system to test against.
