//! Good restores: swapped, started again, undone.
