//! The memory limit holds while far more than it is loaded.
//!
//! `CAIRN_LOAD_GB` sizes the load (default 1; 20 in `make soak`); the limit under
//! test is a quarter of a gigabyte, or `CAIRN_MEMORY_LIMIT_MB`.

use cairn_tests::resp::encode;
use cairn_tests::seed;
use cairn_tests::server::Server;
use rand::{Rng, RngCore};

const VALUE_BYTES: usize = 4_096;
const BATCH: u64 = 100;

#[test]
fn resident_memory_stays_within_ten_percent_of_the_limit() {
    let total = seed::size("CAIRN_LOAD_GB", 1) << 30;
    let limit = seed::size("CAIRN_MEMORY_LIMIT_MB", 256) << 20;
    let server = Server::start(&["--memory-limit", &limit.to_string()]);
    let mut client = server.client();
    let mut random = seed::rng(11, 0);
    let mut value = vec![0; VALUE_BYTES];
    let (mut peak, mut loaded, mut number) = (0, 0, 0_u64);
    while loaded < total {
        let mut requests = Vec::new();
        for _ in 0..BATCH {
            random.fill_bytes(&mut value);
            let key = format!("load:{number:012}");
            encode(&mut requests, &[b"SET".as_slice(), key.as_bytes(), &value]);
            number += 1;
        }
        // A few reads of what is long on disk, so that caches fill as well.
        for _ in 0..10 {
            let key = format!("load:{:012}", random.random_range(0..number));
            encode(&mut requests, &["GET", &key]);
        }
        let replies = client
            .pipeline(&requests, BATCH as usize + 10)
            .expect("the server answers");
        assert!(
            replies.iter().all(|reply| !reply.value.is_error()),
            "{:?}",
            replies[0].value
        );
        loaded += BATCH * VALUE_BYTES as u64;
        peak = server.resident_bytes().max(peak);
    }
    println!(
        "{} GB loaded, limit {} MB, peak {} MB",
        total >> 30,
        limit >> 20,
        peak >> 20
    );
    assert!(
        peak < limit + limit / 10,
        "peak {} MB, limit {} MB",
        peak >> 20,
        limit >> 20
    );
}
