//! The guestfish language: from lines to commands, from answers to bytes.
pub mod lex;
pub mod render;
