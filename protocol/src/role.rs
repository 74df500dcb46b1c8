//! What ROLE answers.

use crate::resp::ReplyWriter;

/// A replica as its master shows it.
pub struct ReplicaLine<'a> {
    pub host: &'a str,
    pub port: u16,
    /// Bytes of the stream that it says to have worked through.
    pub acknowledged: u64,
}

/// Of a master whose stream has `offset` bytes.
pub fn master<'a>(
    offset: u64,
    replicas: impl ExactSizeIterator<Item = ReplicaLine<'a>>,
    out: &mut ReplyWriter,
) {
    out.array(3);
    out.bulk(b"master");
    out.integer(offset as i64);
    out.array(replicas.len());
    for replica in replicas {
        out.array(3);
        out.bulk(replica.host.as_bytes());
        out.bulk_integer(i64::from(replica.port));
        out.bulk_integer(replica.acknowledged as i64);
    }
}

/// Of a replica. `offset`: bytes of the stream that it has worked through; `None`: it
/// has nothing of it yet.
pub fn replica(host: &str, port: u16, link: &str, offset: Option<u64>, out: &mut ReplyWriter) {
    out.array(5);
    out.bulk(b"slave");
    out.bulk(host.as_bytes());
    out.integer(i64::from(port));
    out.bulk(link.as_bytes());
    out.integer(offset.map_or(-1, |offset| offset as i64));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(write: impl FnOnce(&mut ReplyWriter)) -> String {
        let mut out = ReplyWriter::default();
        write(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn both_roles_are_shown_as_redis_shows_them() {
        let line = ReplicaLine {
            host: "::1",
            port: 7,
            acknowledged: 5,
        };
        assert_eq!(
            said(|out| master(9, [line].into_iter(), out)),
            "*3\r\n$6\r\nmaster\r\n:9\r\n*1\r\n*3\r\n$3\r\n::1\r\n$1\r\n7\r\n$1\r\n5\r\n"
        );
        assert_eq!(
            said(|out| replica("h", 7, "connect", None, out)),
            "*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:7\r\n$7\r\nconnect\r\n:-1\r\n"
        );
    }
}
