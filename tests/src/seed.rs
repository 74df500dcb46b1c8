//! Random choices that can be made again.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// The seed of this run: `CAIRN_SEED`, or a fresh one. It is printed, and a test
/// harness shows what a failing test printed.
pub fn seed(test: &str) -> u64 {
    let seed = match std::env::var("CAIRN_SEED") {
        Ok(text) => text.parse().expect("CAIRN_SEED is a number"),
        Err(_) => rand::random(),
    };
    println!("{test}: seed {seed} (CAIRN_SEED={seed} runs it again)");
    seed
}

/// A generator for one actor of a test.
pub fn rng(seed: u64, actor: u64) -> StdRng {
    StdRng::seed_from_u64(seed ^ actor.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// A size from the environment, so that `make soak` runs the long form of a test.
pub fn size(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")),
        Err(_) => default,
    }
}
