//! What all nodes hold as one RDB file.
//!
//! ```text
//! "REDIS0010" | aux 0xfa, name, value ... | function 0xf5, code ... | keys of each node
//! | 0xff | CRC64 of all before it, u64 LE
//! ```
//!
//! Nodes send their keys as they stand in such a file, each with the database that it
//! begins in. So they are passed on as they come; only the sum is taken.

use super::run::{End, Outlet};
use super::source::Source;
use crc::{Crc, Digest, Table};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

static CRC64: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&crc::CRC_64_REDIS);

const AUX: u8 = 0xfa;
const FUNCTION: u8 = 0xf5;
const END: u8 = 0xff;

/// Where the file goes.
pub(super) enum Target<'a> {
    Replica(&'a mut Outlet),
    Spool(&'a mut File),
}

/// A file that is being written.
pub(super) struct Dump<'a> {
    to: Target<'a>,
    sum: Digest<'static, u64, Table<16>>,
}

impl<'a> Dump<'a> {
    pub fn new(to: Target<'a>) -> Self {
        Self {
            to,
            sum: CRC64.digest(),
        }
    }

    /// Writes the whole file. `keys`: not functions alone.
    pub async fn write(
        mut self,
        sources: &mut [Source],
        aux: &[(&str, String)],
        functions: bool,
        keys: bool,
    ) -> Result<(), End> {
        self.put(&head(aux)).await?;
        for code in sources.first().map_or(&[][..], |s| &s.head.libraries) {
            if functions {
                let mut record = vec![FUNCTION];
                put_string(code, &mut record);
                self.put(&record).await?;
            }
        }
        for source in sources {
            let failed = |address: &str| {
                let address = address.to_owned();
                move |end| End::Source(address, end)
            };
            let address = source.address.clone();
            source.ask_for_keys().await.map_err(failed(&address))?;
            while let Some(part) = source.part().await.map_err(failed(&address))? {
                if keys {
                    self.put(&part).await?;
                }
            }
        }
        self.put(&[END]).await?;
        let sum = self.sum.clone().finalize();
        self.pass(&sum.to_le_bytes()).await
    }

    async fn put(&mut self, bytes: &[u8]) -> Result<(), End> {
        self.sum.update(bytes);
        self.pass(bytes).await
    }

    async fn pass(&mut self, bytes: &[u8]) -> Result<(), End> {
        match &mut self.to {
            Target::Replica(outlet) => outlet.send(bytes).await,
            Target::Spool(file) => file.write_all(bytes).await.map_err(End::Spool),
        }
    }
}

fn head(aux: &[(&str, String)]) -> Vec<u8> {
    let mut bytes = b"REDIS0010".to_vec();
    for (name, value) in aux {
        bytes.push(AUX);
        put_string(name.as_bytes(), &mut bytes);
        put_string(value.as_bytes(), &mut bytes);
    }
    bytes
}

/// What the file says about itself.
pub(super) fn aux_fields(replication_id: &str) -> Vec<(&'static str, String)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    vec![
        ("redis-ver", crate::local::REDIS_VERSION.to_owned()),
        ("redis-bits", usize::BITS.to_string()),
        ("ctime", now.unwrap_or_default().as_secs().to_string()),
        ("repl-id", replication_id.to_owned()),
        ("repl-offset", "0".to_owned()),
        ("aof-base", "0".to_owned()),
    ]
}

/// A string, uncompressed: its length in 6, 14 or 32 bits, and its bytes.
fn put_string(string: &[u8], out: &mut Vec<u8>) {
    match string.len() {
        short @ 0..0x40 => out.push(short as u8),
        middle @ 0x40..0x4000 => out.extend_from_slice(&(0x4000 | middle as u16).to_be_bytes()),
        long => {
            out.push(0x80);
            out.extend_from_slice(&(long as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(string);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_that_of_an_rdb_file() {
        let aux = [("a", "x".repeat(64)), ("b", String::new())];
        let long = "x".repeat(64);
        let expected = format!("REDIS0010\u{1}a@@{long}\u{1}b\0");
        let mut bytes = head(&aux);
        bytes.retain(|byte| *byte != AUX);
        assert_eq!(bytes, expected.as_bytes());
    }

    #[test]
    fn the_sum_is_that_of_redis() {
        assert_eq!(CRC64.checksum(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }
}
