//! The allocator of our binaries, and how long it keeps what was freed.
//!
//! 1. What is asked for of `mimalloc` is a default of its own, read before it is changed: after an update that numbers its
//!    options otherwise, or when `MIMALLOC_PURGE_DELAY` is in the environment, nothing is changed.
//! 2. Only binaries include this file (`main.rs` here, `bench/annals`): a program that embeds the library keeps the
//!    allocator it has.
//!
//! Reasons and measurements: docs/decisions/0014 and 0020.

use std::ffi::{c_int, c_long};

/// Facts are many small allocations, made by one thread and freed by another: a fifth of the time
/// of a load or a replay is the allocator's (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of `mimalloc.h`: milliseconds that freed pages wait for reuse before the system has them back.
const PURGE_DELAY: c_int = 15;
const PURGE_DELAY_OF_MIMALLOC: c_long = 1000;
/// Long enough that a query run again finds the pages of its last answer, short enough that a load's do not lie
/// beside the answers of the queries that follow.
const PURGE_DELAY_OF_OURS: c_long = 200;

// SAFETY: as `mimalloc.h` declares them; the crate `mimalloc` links them.
#[expect(unsafe_code, reason = "options of the allocator have no safe face")]
unsafe extern "C" {
    fn mi_option_get(option: c_int) -> c_long;
    fn mi_option_set(option: c_int, value: c_long);
}

/// Gives freed memory back sooner than `mimalloc` does by itself. To be called before threads are started.
#[expect(unsafe_code, reason = "options of the allocator have no safe face")]
pub fn give_back_soon() {
    // SAFETY: both read or write one entry of a table in static memory, check the number they are given, and no
    // other thread runs yet.
    unsafe {
        if mi_option_get(PURGE_DELAY) == PURGE_DELAY_OF_MIMALLOC {
            mi_option_set(PURGE_DELAY, PURGE_DELAY_OF_OURS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "reads what `give_back_soon` changes")]
    fn the_delay_is_ours_unless_the_environment_says_otherwise() {
        // SAFETY: as above; tests of a binary read no other option.
        let before = unsafe { mi_option_get(PURGE_DELAY) };
        give_back_soon();
        // SAFETY: as above.
        let after = unsafe { mi_option_get(PURGE_DELAY) };
        match std::env::var("MIMALLOC_PURGE_DELAY") {
            Ok(given) => assert_eq!((before.to_string(), after), (given, before)),
            Err(_) => assert_eq!((before, after), (PURGE_DELAY_OF_MIMALLOC, PURGE_DELAY_OF_OURS)),
        }
    }
}
