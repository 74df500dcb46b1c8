//! What a replica says of itself before it is served, and what it is answered.

use super::LinkError;
use super::following::id_bytes;
use super::wire::Wire;
use crate::replication::failover::{self, Phase};
use crate::server::Server;
use crate::storage::{Followed, ID_LEN};

/// How the master goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// With its data set, at this point of this stream.
    Full(Followed),
    /// With the stream from where it was left; perhaps it has a new name.
    Continue(Option<[u8; ID_LEN]>),
}

/// Introduces this server and asks for the stream from `at` on.
///
/// # Errors
/// The master refuses, or does not answer.
pub(super) fn introduce(
    server: &Server,
    wire: &mut Wire<'_>,
    at: Option<Followed>,
) -> Result<Answer, LinkError> {
    ping(wire)?;
    authenticate(server, wire)?;
    let port = server.announced_port().to_string();
    tell(wire, &[b"listening-port", port.as_bytes()])?;
    let host = server.settings.lock().text("replica-announce-ip");
    if !host.is_empty() {
        tell(wire, &[b"ip-address", host.as_bytes()])?;
    }
    tell(wire, &[b"capa", b"eof", b"capa", b"psync2"])?;
    psync(server, wire, at)
}

fn ping(wire: &mut Wire<'_>) -> Result<(), LinkError> {
    wire.send(&[b"PING"])?;
    let reply = wire.line()?;
    let allowed = ["+", "-NOAUTH", "-NOPERM", "-ERR operation not permitted"];
    if allowed.iter().any(|start| reply.starts_with(start)) {
        tracing::info!("Master replied to PING, replication can continue...");
        return Ok(());
    }
    let text = format!("Error reply to PING from master: '{reply}'");
    Err(LinkError::Refused(text))
}

fn authenticate(server: &Server, wire: &mut Wire<'_>) -> Result<(), LinkError> {
    let (user, password) = {
        let settings = server.settings.lock();
        let bytes = |name: &str| settings.bytes(name).to_vec();
        (bytes("masteruser"), bytes("masterauth"))
    };
    match (user.is_empty(), password.is_empty()) {
        (_, true) => return Ok(()),
        (true, false) => wire.send(&[b"AUTH", &password])?,
        (false, false) => wire.send(&[b"AUTH", &user, &password])?,
    }
    let reply = wire.line()?;
    match reply.starts_with('-') {
        true => {
            let text = format!("Unable to AUTH to MASTER: {reply}");
            Err(LinkError::Refused(text))
        }
        false => Ok(()),
    }
}

/// What a master need not understand.
fn tell(wire: &mut Wire<'_>, words: &[&[u8]]) -> Result<(), LinkError> {
    let all: Vec<&[u8]> = [&b"REPLCONF"[..]]
        .into_iter()
        .chain(words.iter().copied())
        .collect();
    wire.send(&all)?;
    let reply = wire.line()?;
    if reply.starts_with('-') {
        let option = String::from_utf8_lossy(words[0]);
        tracing::info!("(Non critical) Master does not understand REPLCONF {option}: {reply}");
    }
    Ok(())
}

fn psync(server: &Server, wire: &mut Wire<'_>, at: Option<Followed>) -> Result<Answer, LinkError> {
    let next = at.map_or_else(|| "-1".to_owned(), |at| (at.offset + 1).to_string());
    let id = at.as_ref().map_or(&b"?"[..], |at| &at.id[..]);
    match at {
        Some(_) => tracing::info!(
            "Trying a partial resynchronization (request {}:{next}).",
            String::from_utf8_lossy(id)
        ),
        None => tracing::info!("Partial resynchronization not possible (no cached master)"),
    }
    let mut words = vec![&b"PSYNC"[..], id, next.as_bytes()];
    let hands_over = server.failover.phase() == Phase::HandsOver;
    if hands_over {
        words.push(b"FAILOVER");
    }
    let answer = ask(wire, &words);
    if hands_over {
        failover::answered(server, answer.is_ok());
    }
    answer
}

fn ask(wire: &mut Wire<'_>, words: &[&[u8]]) -> Result<Answer, LinkError> {
    wire.send(words)?;
    let reply = wire.line()?;
    read_answer(&reply)
}

fn read_answer(reply: &str) -> Result<Answer, LinkError> {
    let mut words = reply.split_ascii_whitespace();
    let refused = |text: String| Err(LinkError::Refused(text));
    match words.next() {
        Some("+FULLRESYNC") => {
            let id = words.next().and_then(id_bytes);
            let offset = words.next().and_then(|word| word.parse().ok());
            match (id, offset) {
                (Some(id), Some(offset)) => Ok(Answer::Full(Followed {
                    in_step: false,
                    offset,
                    db: 0,
                    id,
                })),
                _ => refused("Master replied with wrong +FULLRESYNC syntax.".into()),
            }
        }
        Some("+CONTINUE") => match words.next() {
            None => Ok(Answer::Continue(None)),
            Some(id) => match id_bytes(id) {
                Some(id) => Ok(Answer::Continue(Some(id))),
                None => refused("Master replied with wrong +CONTINUE syntax.".into()),
            },
        },
        Some("-NOMASTERLINK" | "-LOADING") => refused(format!(
            "Master is currently unable to PSYNC but should be in the future: {reply}"
        )),
        _ => refused(format!("Unexpected reply to PSYNC from master: {reply}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_psync_are_understood_or_named() {
        let id = "a".repeat(ID_LEN);
        let full = read_answer(&format!("+FULLRESYNC {id} 17")).unwrap();
        let Answer::Full(at) = full else {
            panic!("{full:?}");
        };
        assert_eq!((at.offset, at.id, at.in_step), (17, [b'a'; ID_LEN], false));
        assert_eq!(read_answer("+CONTINUE").unwrap(), Answer::Continue(None));
        let renamed = read_answer(&format!("+CONTINUE {id}")).unwrap();
        assert_eq!(renamed, Answer::Continue(Some([b'a'; ID_LEN])));
        for bad in [
            "+FULLRESYNC",
            "+FULLRESYNC short 1",
            "+CONTINUE short",
            "-ERR unknown command 'PSYNC'",
            "-NOMASTERLINK Can't SYNC while not connected with my master",
            "+OK",
        ] {
            assert!(read_answer(bad).is_err(), "{bad}");
        }
    }
}
