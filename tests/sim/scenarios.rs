//! Directed scenarios, each a sentence.
