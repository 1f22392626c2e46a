//! EDN: text to values with their places, and back.

mod printer;

pub use printer::{print, print_pretty, write};
